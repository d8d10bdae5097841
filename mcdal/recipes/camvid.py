"""CamVid: street scenes, 37 of 367 labeled at random and 18 more a round to 40 %; DRN-D-22, mean IoU on the test drive."""

from dataclasses import replace
from pathlib import Path

from mcdal.config import Config, Protocol, choose_scale
from mcdal.pool.camvid import CamVid
from mcdal.recipes.base import Scale, scenes, small_scenes
from mcdal.strategies.mcdal import MCDAL

SMALL_SIZE = 120, 160


def camvid(data: Path, scale: Scale = "full") -> Config:
    """The folder CamVid in SegNet's layout, or a tar file of it."""
    # An epoch is one pass over all 367 images, however few of them are labeled.
    source = CamVid(data)
    full = scenes(source, MCDAL(), Protocol(start=37, budget=18, rounds=7), crop=(360, 480), steps_per_epoch=367 // 8)
    return choose_scale(scale, full=lambda: full, small=lambda: small_scenes(full, replace(source, size=SMALL_SIZE)))
