"""Fields by name: what is allowed, what is told otherwise, and what counts as the same run."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch

from mcdal.config import Config, Protocol, build, call
from mcdal.errors import ConfigError
from mcdal.plan import decisive, run_id, same_recipe
from mcdal.pool.folder import Folder
from mcdal.recipes.cifar10 import cifar10
from mcdal.recipes.cifar10_published import cifar10_published
from mcdal.recipes.folder import folder
from mcdal.registry import listed, load
from mcdal.settings import canonical, described, field_help, filled, override, parse_settings, to_json
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
        ("strategy.heads.x", "1", "heads is '2' and has no field 'x'"),
        ("training", "1", "group of fields: set one of training.epochs"),
        ("strategy.heads", "four", "--set strategy.heads=four: it should be a valid integer"),
        ("strategy.heads", "1", "strategy.heads = 1: at least 2"),
        ("strategy.distance", "l3", "'l1', 'l2' or 'kl'"),
        ("training.precision", "float16", "'float32'"),
        ("training.epochs", "0", "training.epochs = 0"),
        ("training.optimization.lr", "-1", "training.optimization.lr = -1"),
        ("training.optimization.lr", "NaN", "training.optimization.lr=NaN: give a finite number"),
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
    with pytest.raises(ConfigError, match="--scale huge: the recipe cifar10 has full, small"):
        call(cifar10, Path("data"), "huge")


def test_a_protocol_too_large_for_the_pool_is_refused():
    with pytest.raises(ConfigError, match=r"30 \+ 6 x 20 = 150 labels, but the pool has 100"):
        Protocol(start=30, budget=20).sizes(100)
    assert Protocol(start=1, budget=1, rounds=2).sizes(2) == [1, 1]


def test_a_total_cuts_the_last_round_and_ends_the_protocol():
    protocol = Protocol(start=20, budget=10, rounds=6, total=45)
    assert protocol.sizes(50) == [20, 10, 10, 5] and protocol.planned == 4
    assert Protocol(start=20, budget=10, rounds=3, total=99).sizes(50) == [20, 10, 10]
    assert Protocol(start=20, budget=10, rounds=3, total=5).sizes(50) == [5]
    for given, words in (
        ({"total": 0}, "protocol.total"),
        ({"total": 9, "start": 0.1}, "as numbers"),
        ({"control": 1.0}, "protocol.control"),
    ):
        with pytest.raises(ConfigError, match=words):
            Protocol(**{"start": 20, "budget": 10, **given})


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


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("strategy.heads", "2.5", "it should be a valid integer"),
        ("strategy.heads", "true", "it should be a valid integer"),
        ("strategy.heads", '"4"', "it should be a valid integer"),
        ("strategy.heads", "", "it should be a valid integer"),
        ("strategy._model", "3", "no field '_model'"),
        ("strategy.", "3", "MCDAL has no field ''"),
        ("protocol.budget", "nan", "it should be a valid integer or a valid number"),
        ("protocol.budget", "true", "it should be a valid integer or a valid number"),
        ("protocol.budget", "1e400", "give a finite number"),
        ("protocol.start", "1.0", "protocol.start = 1.0: give a whole number of samples, or a share below 1"),
        ("protocol.rounds", "2.0", "it should be a valid integer"),
        ("training.compile", "maybe", "it should be a valid boolean or 'auto'"),
        ("training.augment.crop_padding", "-1", "--set training.augment.crop_padding=-1: augment: crop_padding is -1"),
        ("checkpoint_seconds", "-1", "checkpoint_seconds = -1.0: give 0 or more"),
        ("gallery", "-1", "gallery = -1: give 0 or more"),
        ("notes", "hello", "it should be a valid array"),
    ],
)
def test_values_of_another_type_or_out_of_range(field, text, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        override(fake_config(), {field: text})


@pytest.mark.parametrize(
    ("field", "texts", "value"),
    [
        ("strategy.published", ("true", "True"), True),
        ("strategy.distance", ("l2", '"l2"'), "l2"),
        ("training.compile", ("auto",), "auto"),
        ("training.compile", ("false",), False),
        ("training.optimization.lr", ("1", "1.0", "1e0"), 1.0),
        ("training.optimization.lr", ("0.001", "1e-3"), 0.001),
        ("protocol.start", ("20",), 20),
    ],
)
def test_equal_values_are_equal_text_however_they_are_written(field, texts, value):
    for text in texts:
        changed = override(fake_config(), {field: text})
        part = changed
        for name in field.split("."):
            part = getattr(part, name)
        assert part == value and type(part) is type(value)
        assert canonical(changed, {field: text}) == {field: texts[0]}
        assert override(fake_config(), canonical(changed, {field: text})) == changed


def test_settings_are_field_and_value():
    assert parse_settings(["strategy.heads=4", " model.width = 2 ", "a=b=c"]) == {
        "strategy.heads": "4",
        "model.width": "2",
        "a": "b=c",
    }
    for wrong in ("strategy", "=3", ""):
        with pytest.raises(ConfigError, match="write FIELD=VALUE"):
            parse_settings([wrong])
    with pytest.raises(ConfigError, match="--set gallery is given twice, as 1 and as 2: give it once"):
        parse_settings(["gallery=1", "gallery=2"])


class Colour(Enum):
    RED = "red"


@dataclass
class Own(MCDAL):
    """Somebody's own, with fields of many kinds."""

    power: float = 2.0
    """Exponent of the score."""
    colour: Colour = Colour.RED
    """Of no use."""
    callback: Callable[[], int] | None = None
    """Cannot be written down."""
    tensor: torch.Tensor | None = None
    """Cannot be written down."""
    where: Path = Path("x")
    """A file."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.power < 0:
            raise ValueError("power must not be negative")


def test_fields_of_an_own_strategy():
    config = fake_config(Own())
    changed = override(config, {"strategy.power": "3", "strategy.heads": "4", "strategy.where": "/tmp/a b"})
    assert (changed.strategy.power, changed.strategy.heads, changed.strategy.where) == (3.0, 4, Path("/tmp/a b"))
    with pytest.raises(ConfigError, match=r"--set strategy\.power=-1: power must not be negative"):
        override(config, {"strategy.power": "-1"})
    with pytest.raises(ConfigError, match=r"--set strategy\.tensor: a value of this type cannot be written down"):
        override(config, {"strategy.tensor": "1"})
    help = field_help(Own)
    assert help["power"] == "Exponent of the score." and help["heads"].startswith("Number of auxiliary heads")
    assert ("strategy.power", "2", "Exponent of the score.") in list(described(Own(), "strategy"))


def test_json_of_values_that_are_not_plain():
    own = to_json(fake_config(replace(Own(), power=np.float64(2.5))))["strategy"]
    assert own["power"] == 2.5 and own["colour"] == "red" and own["where"] == "x"
    assert json.loads(json.dumps(own)) == own
    assert to_json({"a": (np.int64(3), frozenset("ba")), "b": np.bool_(True)}) == {"a": [3, ["a", "b"]], "b": True}


def test_what_decides_a_result():
    base = decisive(to_json(fake_config()))
    assert decisive(to_json(fake_config(checkpoint_seconds=1.0, gallery=1, notes=("other",)))) == base
    assert decisive(to_json(fake_config(MCDAL(heads=4)))) != base
    there, here = (decisive(to_json(folder(Path(data)))) for data in ("a", "b"))
    assert there == here
    moved = replace(folder(Path("a")), source=Folder(Path("a"), test=Path("c"), size=64, workers=0, cache_gib=1.0))
    assert decisive(to_json(moved)) == here
    resized = replace(folder(Path("a")), source=Folder(Path("a"), size=32))
    assert decisive(to_json(resized)) != here


def test_fields_without_effect_do_not_name_another_run():
    plain = run_id("digits", "full", "mcdal", 0, {})
    assert run_id("digits", "full", "mcdal", 0, {"checkpoint_seconds": "5", "training.replay": "false"}) == plain
    assert run_id("digits", "full", "mcdal", 0, {"gallery": "3", "strategy.heads": "4"}) == run_id(
        "digits", "full", "mcdal", 0, {"strategy.heads": "4"}
    )


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("digits", "full", "mcdal", -3, {}), "digits-mcdal-s-3"),
        (("a/b.py:pets", "small", "random", 0, {}), "pets-small-random-s0"),
        (("a.b:x/../y", "a b", "m:Q", 0, {}), "x_.._y-a_b-Q-s0"),
        (("digits", "full", "mcdal", 1, {"strategy.heads": "4"}), "digits-mcdal-890e1726-s1"),
        (("digits", "full", "mcdal", 1, {"b": "1", "a": "2"}), "digits-mcdal-cd860dce-s1"),
        (("digits", "full", "mcdal", 1, {"a": "2", "b": "1"}), "digits-mcdal-cd860dce-s1"),
    ],
)
def test_run_ids_stay_as_they_are(arguments, name):
    assert run_id(*arguments) == name
    assert not set(name) & set('/\\:*?"<>| ')


def some_recipe(data: Path, size: int) -> Config:
    """Pictures."""
    return fake_config()


def test_a_recipe_is_called_with_what_it_takes(tmp_path):
    with pytest.raises(ConfigError, match="--data nowhere does not exist"):
        build(some_recipe, Path("nowhere"), None)
    with pytest.raises(ConfigError, match="some_recipe needs --data DIR: Pictures"):
        build(some_recipe, None, None)
    with pytest.raises(ConfigError, match="some_recipe needs a value for size: only data and scale can be given"):
        build(some_recipe, tmp_path, None)
    with pytest.raises(ConfigError, match="some_recipe takes no --scale"):
        build(some_recipe, tmp_path, "small")


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build(folder, Path("~"), None).source.data == tmp_path


def test_an_edited_factory_or_helper_is_another_configuration(tmp_path):
    seen = []
    for activation, helper in (("ReLU", 1), ("Sigmoid", 1), ("Sigmoid", 2)):
        path = tmp_path / f"{len(seen)}" / "mine.py"
        path.parent.mkdir()
        path.write_text(
            f"from torch import nn\nimport mcdal\ndef helper():\n    return {helper}\n"
            f"def net():\n    return nn.Sequential(nn.Flatten(), nn.{activation}(), nn.Linear(108, 3))\n"
            "def recipe():\n    from dataclasses import replace\n    from mcdal.testing import fake_config\n"
            "    return replace(fake_config(), model=mcdal.Custom(net, head='2'))\n"
        )
        seen.append(decisive(to_json(load("recipes", f"{path}:recipe")()))["model.factory.code"])
    assert len(set(seen)) == 3


@pytest.mark.parametrize("name", sorted(listed("strategies")))
def test_a_recorded_config_is_the_one_it_was_recorded_of(name):
    config = fake_config(load("strategies", name)())
    recorded = json.loads(json.dumps(to_json(config)))
    assert same_recipe(recorded, config)
    assert decisive(filled(recorded, config)) == decisive(to_json(config))
    assert not same_recipe(recorded, replace(config, gallery=1, training=replace(config.training, epochs=9)))


def test_a_recipe_on_other_files_is_not_known_to_be_the_same():
    here, there = folder(Path("a")), folder(Path("b"))
    assert same_recipe(to_json(here), here)
    assert not same_recipe(to_json(here), there)
