"""CIFAR-100 as in the paper: as CIFAR-10, with 100 classes."""

from pathlib import Path

from mcdal.config import Config, choose_scale
from mcdal.pool.cifar import Cifar
from mcdal.recipes.base import Scale, paper, small
from mcdal.strategies.mcdal import MCDAL


def cifar100(data: Path, scale: Scale = "full") -> Config:
    """The folder with CIFAR-100: its python or binary files, or Parquet as Hugging Face writes it."""
    full = paper(Cifar(data, classes=100), MCDAL())
    return choose_scale(scale, full=lambda: full, small=lambda: small(full))
