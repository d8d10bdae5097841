"""Fields by name: what is allowed, what is told otherwise, and what counts as the same run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mcdal.config import Protocol, decisive, field_help, override, run_id, to_json
from mcdal.errors import ConfigError
from mcdal.recipes.cifar10 import cifar10
from mcdal.recipes.cifar10_published import cifar10_published
from mcdal.registry import listed, load
from mcdal.strategies.mcdal import MCDAL
from mcdal.testing import fake_config


def test_override_sets_fields_of_every_kind():
    changed = override(
        fake_config(),
        {
            "strategy.heads": "4",
            "strategy.distance": "kl",
            "strategy.published": "true",
            "training.optimization.milestones": "[0.5]",
            "training.augment.flip": "false",
            "protocol.start": "0.2",
        },
    )
    assert changed.strategy == MCDAL(heads=4, distance="kl", published=True)
    assert changed.training.optimization.milestones == (0.5,)
    assert changed.training.augment.flip is False
    assert changed.protocol.start == 0.2


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("strategy.head", "4", r"MCDAL has no field 'head': did you mean 'heads'\?"),
        ("nonsense", "1", "Config has no field 'nonsense'"),
        ("strategy.heads.x", "1", "heads is a plain value"),
        ("training", "1", "group of fields: set one of training.epochs"),
        ("strategy.heads", "four", "--set strategy.heads=four: Input should be a valid integer"),
        ("strategy.heads", "1", "strategy.heads = 1: at least 2"),
        ("strategy.distance", "l3", "'l1', 'l2' or 'kl'"),
        ("training.precision", "float16", "'float32'"),
        ("training.epochs", "0", "training.epochs = 0"),
        ("training.optimization.lr", "-1", "training.optimization.lr = -1"),
        ("training.optimization.lr", "NaN", "training.optimization.lr = nan"),
        ("training.optimization.milestones", "[30]", "shares between 0 and 1"),
        ("protocol.budget", "0", "protocol.budget = 0"),
        ("protocol.budget", "-5", "protocol.budget = -5"),
        ("protocol.budget", "1.5", "protocol.budget = 1.5"),
        ("protocol.rounds", "0", "protocol.rounds = 0"),
    ],
)
def test_override_names_the_field_and_what_is_allowed(field, value, words):
    with pytest.raises(ConfigError, match=words):
        override(fake_config(), {field: value})


def test_the_papers_protocol():
    config = cifar10(Path("data"))
    assert config.protocol.sizes(50_000) == [5_000, *[2_500] * 6]
    assert (config.training.steps, config.training.batch_size, config.training.unlabeled_batch_size) == (
        39_000,
        128,
        128,
    )
    assert config.model.depth == 18 and config.model.width == 64
    small = cifar10(Path("data"), "small")
    assert replace(small, model=config.model, training=config.training, notes=()) == config
    assert "small scale" in small.notes[0]
    published = cifar10_published(Path("data"))
    assert published.strategy.published and published.training.published_sampling
    assert published.training.steps == 99 * 390
    with pytest.raises(ConfigError, match="no scale 'huge': this recipe has full, small"):
        cifar10(Path("data"), "huge")


def test_a_protocol_too_large_for_the_pool_is_refused():
    with pytest.raises(ConfigError, match=r"30 \+ 6 x 20 = 150 labels, but the pool has 100"):
        Protocol(start=30, budget=20).sizes(100)
    assert Protocol(start=1, budget=1, rounds=2).sizes(2) == [1, 1]


@pytest.mark.parametrize("name", listed("recipes"))
def test_every_recipe_is_json_and_its_fields_are_explained(name):
    recipe = load("recipes", name)
    here, there = ((recipe(Path(d)) if name != "digits" else recipe()) for d in ("a", "b"))
    assert json.loads(json.dumps(to_json(here)))["protocol"]["rounds"] > 1
    assert decisive(to_json(here)) == decisive(to_json(there)), "where the data lie does not matter"
    for part in (
        here,
        here.source,
        here.model,
        here.strategy,
        here.training,
        here.protocol,
        here.training.optimization,
    ):
        helped = field_help(type(part))
        assert set(helped) == {f for f in part.__dataclass_fields__ if not f.startswith("_")}, type(part)


def test_other_code_of_the_same_name_is_another_configuration(tmp_path):
    text = "from dataclasses import dataclass\nfrom mcdal import Random\n@dataclass\nclass Mine(Random):\n    x: int = {x}\n"
    seen = []
    for x in (1, 1, 2):
        path = tmp_path / f"{len(seen)}" / "mine.py"
        path.parent.mkdir()
        path.write_text(text.format(x=x).replace("Random):\n", f"Random):\n    '''{x}'''\n"))
        seen.append(decisive(to_json(load("strategies", f"{path}:Mine")(x=5)))["code"])
    assert seen[0] == seen[1] != seen[2]


def test_run_ids_are_stable_and_fit_for_files():
    assert run_id("cifar10", "full", "mcdal", 0, {}) == "cifar10-mcdal-s0"
    assert run_id("cifar10", "small", "my/own.py:Mine", 3, {}) == "cifar10-small-Mine-s3"
    assert run_id("digits", "full", "mcdal", 0, {"protocol.rounds": "2"}) == "digits-mcdal-9578fe0d-s0"
