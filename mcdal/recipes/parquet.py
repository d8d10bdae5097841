"""Parquet shards with an image and a label column, at 64x64 unless source.size says otherwise."""

from dataclasses import replace
from pathlib import Path

from mcdal.config import Config, choose_scale
from mcdal.pool.parquet import Parquet
from mcdal.recipes.base import Scale, paper, small
from mcdal.strategies.mcdal import MCDAL
from mcdal.training import Training


def parquet(data: Path, scale: Scale = "full") -> Config:
    """A folder of .parquet files; those with `test` in their names are the test images."""
    full = replace(paper(Parquet(data, size=64), MCDAL()), training=Training(epochs=50, steps_per_epoch=100))
    return choose_scale(scale, full=lambda: full, small=lambda: small(full))
