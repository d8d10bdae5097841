"""Runs of one store that train the same model compute it once, and end as if they had not."""

from dataclasses import replace

import pytest

from mcdal.loop import run
from mcdal.plan import Plan
from mcdal.strategies.core_set import CoreSet
from mcdal.strategies.ll import LearningLoss
from mcdal.strategies.margin import Margin
from mcdal.strategies.mcdal import MCDAL
from mcdal.strategies.random import Random
from mcdal.testing import fake_config, fake_scene_config, fake_training
from tests.runs import content

MODEL = "round_000/model.safetensors"


def play(out, config, seed=0):
    """Gives the rounds that were trained, and what was told."""
    trained, told, now = set(), [], [0]

    def listen(kind, **said):
        if kind == "round":
            now[0] = said["round"]
        elif kind == "train":
            trained.add(now[0])
        elif kind == "notice":
            told.append(said["text"])

    id = run(Plan(config, seed), out, device="cpu", listen=listen)
    return id, trained, told


def of(id, out):
    """What a store holds of a run; masks are numbered as they come, so labels count by their sample alone."""
    found = {table: [row for row in rows if id in row] for table, rows in content(out).items()}
    return found | {"labels": [row[1] for row in found["labels"]]}


@pytest.fixture(autouse=True)
def _speak(monkeypatch):
    monkeypatch.setattr("mcdal.training.SECONDS_BETWEEN_WORDS", 0.0)


@pytest.mark.parametrize("make", [fake_config, fake_scene_config], ids=["images", "scenes"])
def test_the_first_round_is_trained_once_and_everything_is_as_it_was(tmp_path, make):
    alone, together = tmp_path / "alone", tmp_path / "together"
    play(together, make(Random()))
    id, trained, told = play(together, make(Margin()))
    assert trained == {1, 2, 3}
    assert told[0] == "round 0: took over the model of custom-Random-s0, which learned from the same labels"
    play(alone, make(Margin()))
    assert of(id, together)["queries"]
    assert of(id, together)["metrics"]
    assert of(id, together) == of(id, alone)
    for number in range(4):
        name = f"runs/{id}/round_{number:03d}/model.safetensors"
        assert (alone / name).read_bytes() == (together / name).read_bytes()


def test_a_strategy_with_networks_of_its_own_trains_and_lends(tmp_path):
    play(tmp_path, fake_config(Random()))
    assert play(tmp_path, fake_config(MCDAL()))[1] == {0, 1, 2, 3}, "its heads are trained beside the model"
    other = tmp_path / "other"
    play(other, fake_config(MCDAL()))
    assert play(other, fake_config(CoreSet()))[1] == {1, 2, 3}


@pytest.mark.parametrize(
    ("first", "second", "seed"),
    [
        (fake_config(LearningLoss()), fake_config(Margin()), 0),
        (fake_config(MCDAL(published=True)), fake_config(Margin()), 0),
        (fake_config(Random()), fake_config(Margin()), 1),
        (fake_config(Random()), fake_config(Margin(), training=fake_training(precision="float64", epochs=3)), 0),
        (
            fake_config(Random()),
            fake_config(Margin(), protocol=replace(fake_config().protocol, start=13)),
            0,
        ),
    ],
    ids=["a changed loss", "moved statistics", "another seed", "another training", "another start set"],
)
def test_whose_model_is_another_one_is_left_alone(tmp_path, first, second, seed):
    play(tmp_path, first)
    assert play(tmp_path, second, seed)[1] == {0, 1, 2, 3}


def test_a_damaged_model_of_another_run_is_told_and_not_used(tmp_path):
    id, *_ = play(tmp_path, fake_config(Random()))
    (tmp_path / "runs" / id / MODEL).write_bytes(b"no tensors")
    _, trained, told = play(tmp_path, fake_config(Margin()))
    assert trained == {0, 1, 2, 3}
    assert "model.safetensors is damaged" in told[0]


def test_another_arithmetic_is_another_model(tmp_path, monkeypatch):
    play(tmp_path, fake_config(Random()))
    before = __import__("mcdal.loop").loop.environment
    monkeypatch.setattr("mcdal.loop.environment", lambda numerics: before(numerics) | {"torch": "another"})
    assert play(tmp_path, fake_config(Margin()))[1] == {0, 1, 2, 3}
