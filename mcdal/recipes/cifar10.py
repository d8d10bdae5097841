"""CIFAR-10 as in the paper: 10 % random start, +5 % a round to 40 %, ResNet-18, 39,000 steps a round."""

from pathlib import Path

from mcdal.config import Config, choose_scale
from mcdal.pool.cifar import Cifar
from mcdal.recipes.base import Scale, paper, small
from mcdal.strategies.mcdal import MCDAL


def cifar10(data: Path, scale: Scale = "full") -> Config:
    """The folder with CIFAR-10: its python or binary batches, or Parquet as Hugging Face writes it."""
    full = paper(Cifar(data, classes=10), MCDAL())
    return choose_scale(scale, full=lambda: full, small=lambda: small(full))
