"""Runs of one store that train the same model compute it once, and end as if they had not."""

import shutil
from dataclasses import dataclass, replace

import pytest

import mcdal.loop
from mcdal.loop import run
from mcdal.plan import Plan
from mcdal.store import Store
from mcdal.strategies.core_set import CoreSet
from mcdal.strategies.ll import LearningLoss
from mcdal.strategies.margin import Margin
from mcdal.strategies.mcdal import MCDAL
from mcdal.strategies.random import Random
from mcdal.testing import fake_config, fake_pool, fake_scene_config, fake_training
from mcdal.values import Label
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
    monkeypatch.setattr("mcdal.work.SECONDS_BETWEEN_WORDS", 0.0)
    before = mcdal.loop.environment
    for module in ("loop", "round_models"):
        monkeypatch.setattr(f"mcdal.{module}.environment", lambda *given: before(*given) | {"commit": "abc"})


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
    before = mcdal.loop.environment
    monkeypatch.setattr("mcdal.round_models.environment", lambda *given: before(*given) | {"torch": "another"})
    assert play(tmp_path, fake_config(Margin()))[1] == {0, 1, 2, 3}


def test_a_run_with_corrected_labels_lends_nothing(tmp_path):
    id, *_ = play(tmp_path, fake_config(Random()))
    store, pool = Store(tmp_path), fake_pool()
    first = store.asked(id, 0)[0]
    store.add_labels(id, [Label(first, pool.truth()[first], "somebody else")])
    assert store.corrected(id)
    store.close()
    assert play(tmp_path, fake_config(Margin()))[1] == {0, 1, 2, 3}


class Meddler(Margin):
    """Breaks the contract: its step changes the task model, and it does not say so."""

    def attach(self, model, task, setting):
        self._model = model

    def step(self, labeled, unlabeled, progress):
        self._model(unlabeled.x)


def test_somebody_s_step_is_not_trusted_to_leave_the_model_alone(tmp_path):
    play(tmp_path, fake_config(Meddler()))
    assert play(tmp_path, fake_config(Random()))[1] == {0, 1, 2, 3}


def test_nothing_is_taken_over_where_files_differ_from_their_commit(tmp_path, monkeypatch):
    before = mcdal.loop.environment
    monkeypatch.setattr("mcdal.round_models.environment", lambda *given: before(*given) | {"commit": "abc+"})
    play(tmp_path, fake_config(Random()))
    assert play(tmp_path, fake_config(Margin()))[1] == {0, 1, 2, 3}


def test_a_model_that_was_taken_over_is_the_run_s_own_afterwards(tmp_path):
    """Stopped in round 1, and the lender is gone: round 0 is not trained again."""
    lender, *_ = play(tmp_path, fake_config(Random()))

    def stop(kind, **said):
        if kind == "measure":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Plan(fake_config(Margin())), tmp_path, device="cpu", listen=stop)
    shutil.rmtree(tmp_path / "runs" / lender)
    id, trained, _ = play(tmp_path, fake_config(Margin()))
    assert trained == {1, 2, 3}
    alone = tmp_path / "alone"
    play(alone, fake_config(Margin()))
    assert of(id, tmp_path) == of(id, alone)


@dataclass
class Teller(Margin):
    """Says something of its own of every training."""

    def metrics(self):
        return {"train/mine": 0.5}


def test_what_a_strategy_says_of_a_training_is_said_of_one_that_was_taken_over(tmp_path):
    play(tmp_path, fake_config(Random()))
    id, *_ = play(tmp_path, fake_config(Teller()))
    found = {(m.round, m.name): m.value for m in Store(tmp_path).metrics(id)}
    assert [found[r, "train/mine"] for r in range(4)] == [0.5] * 4
