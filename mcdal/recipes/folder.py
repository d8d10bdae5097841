"""Your own images: a folder with a folder for each class, at 64x64 unless source.size says otherwise."""

from dataclasses import replace
from pathlib import Path

from mcdal.config import Config, choose_scale
from mcdal.pool.folder import Folder
from mcdal.recipes.base import Scale, paper, small
from mcdal.strategies.mcdal import MCDAL
from mcdal.training import Training


def folder(data: Path, scale: Scale = "full") -> Config:
    """A folder of class folders, or one with train and test folders that hold them."""
    full = replace(paper(Folder(data, size=64), MCDAL()), training=Training(epochs=50, steps_per_epoch=100))
    return choose_scale(scale, full=lambda: full, small=lambda: small(full))
