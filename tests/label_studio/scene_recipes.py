"""Recipes that tests name by their path."""

from dataclasses import replace
from pathlib import Path

from mcdal.config import Config
from mcdal.pool.mask_folder import MaskFolder
from mcdal.testing import fake_config, fake_scene_config


def blocks() -> Config:
    return fake_scene_config()


def classes() -> Config:
    return fake_config()


def own(data: Path) -> Config:
    return replace(fake_scene_config(), source=MaskFolder(data))
