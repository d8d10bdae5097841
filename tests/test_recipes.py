"""Recipes: complete, plain, and every field that they have explained."""

import dataclasses
import importlib
import json
import pkgutil
from pathlib import Path

import pytest

import mcdal.models
import mcdal.pool
import mcdal.pool.streaming
import mcdal.strategies
from mcdal.augment import Augment
from mcdal.config import Config, Protocol, call, default_scale, scales
from mcdal.models.base import Architecture
from mcdal.pool.base import Source
from mcdal.recipes.camvid import camvid
from mcdal.recipes.cityscapes import cityscapes
from mcdal.registry import listed, load
from mcdal.schedule import Optimization
from mcdal.settings import as_text, described, field_help, override, to_json
from mcdal.strategies.base import Strategy
from mcdal.training import Training


def every(base, package):
    """All dataclasses below `base` in the modules of a package."""
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        module = importlib.import_module(found.name)
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, base) and kind.__module__ == found.name and kind is not base:
                yield kind


PARTS = [
    *(Config, Protocol, Training, Optimization, Augment),
    *every(Strategy, mcdal.strategies),
    *every(Architecture, mcdal.models),
    *every(Source, mcdal.pool),
    *every(Source, mcdal.pool.streaming),
]


def of(name, scale=None):
    recipe = load("recipes", name)
    return call(recipe, Path("DIR") if name != "digits" else None, scale)


ALL = [(name, scale) for name in listed("recipes") for scale in (None, *scales(load("recipes", name)))]


def test_the_walk_finds_what_there_is():
    names = {kind.__name__ for kind in PARTS}
    assert names >= {
        "MCDAL",
        "Margin",
        "Random",
        "ResNet",
        "SmallConv",
        "Custom",
        "Cifar",
        "Folder",
        "Digits",
        "Arrays",
    }


@pytest.mark.parametrize("kind", PARTS, ids=lambda kind: kind.__name__)
def test_every_field_is_explained(kind):
    assert dataclasses.is_dataclass(kind) and kind.__doc__
    helped = field_help(kind)
    for f in dataclasses.fields(kind):
        if f.init and not f.name.startswith("_"):
            assert helped.get(f.name, "").endswith((".", ")")), f"{kind.__name__}.{f.name}: {helped.get(f.name)!r}"


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_a_recipe_is_plain_json_and_says_how_to_set_its_fields(name, scale):
    config = of(name, scale)
    plain = to_json(config)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    for path, value, help in described(config, ""):
        assert help, path
        if "null" not in value and path != "notes":
            changed = override(config, {path: value})
            assert to_json(changed) == plain, f"{path}={value} is not what it was"


def test_scales_are_declared():
    assert {name: scales(load("recipes", name)) for name in ("cifar10", "digits")} == {
        "cifar10": ("full", "small"),
        "digits": (),
    }
    assert default_scale(load("recipes", "cifar10")) == default_scale(load("recipes", "digits")) == "full"
    for name in listed("recipes"):
        if scales(load("recipes", name)):
            assert of(name) == of(name, "full")
            assert any("small scale" in note for note in of(name, "small").notes)


def test_every_recipe_says_what_it_is():
    for name, line in listed("recipes").items():
        assert len(line) > 20 and load("recipes", name).__doc__, name
    assert as_text(of("cifar10").protocol.start) == "0.1"


def test_scenes_are_trained_by_the_papers_schedule():
    """150 epochs at 1e-3, a tenth of it after 100, without a warm-up."""
    for recipe in (camvid, cityscapes):
        config = recipe(Path("x"))
        t = config.training
        rates = [t.optimization.rate(e * t.steps_per_epoch, t.steps, t.warmup, 4) for e in (0, 99, 100, 149)]
        assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
        assert t.augment.scale == (1.0, 1.0)
    assert any("688" in note for note in cityscapes(Path("x")).notes)
    assert not any("688" in note for note in cityscapes(Path("x"), "small").notes)
