"""Cityscapes as in the paper: 300 of 2,975 labeled at random and 150 more a round to 40 %; DRN-D-22, mean IoU on val."""

from dataclasses import replace
from pathlib import Path

from mcdal.config import Config, Protocol, choose_scale
from mcdal.pool.cityscapes import Cityscapes
from mcdal.recipes.base import Scale, scenes, small_scenes
from mcdal.strategies.mcdal import MCDAL

CROP = 688, 688
SMALL_SIZE = 128, 256
NOTE = (
    "the paper states no crop for Cityscapes: 688x688, as the code it shares with VAAL has; testing is on whole images"
)


def cityscapes(data: Path, scale: Scale = "full") -> Config:
    """The folder with leftImg8bit and gtFine."""
    # An epoch is one pass over all 2,975 images, however few of them are labeled.
    source = Cityscapes(data)
    full = scenes(source, MCDAL(), Protocol(start=300, budget=150, rounds=7), crop=CROP, steps_per_epoch=2975 // 8)
    return choose_scale(
        scale,
        full=lambda: replace(full, notes=(NOTE,)),
        small=lambda: small_scenes(full, replace(source, size=SMALL_SIZE)),
    )
