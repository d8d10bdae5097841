"""Shards that are read where they lie, on a disk or in a bucket, at 64x64 unless source.size says otherwise."""

from dataclasses import replace
from pathlib import Path

from mcdal.config import Config, choose_scale
from mcdal.pool.streaming.source import Shards
from mcdal.recipes.base import Scale, paper, small
from mcdal.strategies.mcdal import MCDAL
from mcdal.training import Training


def shards(data: Path | str, scale: Scale = "full") -> Config:
    """A folder or URL of Parquet files, WebDataset tars, class folders, or a Lance table. No copy is made of it."""
    full = replace(paper(Shards(data, size=64), MCDAL()), training=Training(epochs=50, steps_per_epoch=100))
    return choose_scale(scale, full=lambda: full, small=lambda: small(full))
