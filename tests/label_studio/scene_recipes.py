"""Recipes that tests name by their path."""

from mcdal.config import Config
from mcdal.testing import fake_config, fake_scene_config


def blocks() -> Config:
    return fake_scene_config()


def classes() -> Config:
    return fake_config()
