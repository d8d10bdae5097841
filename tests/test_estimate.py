"""The plan and how long it will take: arithmetic on a clock that is ours, and nothing recorded."""

from dataclasses import replace

import pytest

import mcdal.estimate
from mcdal.estimate import estimate, show
from mcdal.plan import Plan
from mcdal.strategies.random import Random
from mcdal.testing import fake_config, fake_training
from mcdal.work import Trained


@pytest.fixture
def steps(monkeypatch):
    """Training costs 5 s to begin and a tenth of a second a step; gives the numbers of steps that were timed."""
    timed = []

    def train(model, pool, labels, strategy, training, **_):
        timed.append(training.steps)
        return Trained({}, 5 + 0.1 * training.steps)

    monkeypatch.setattr(mcdal.estimate, "train", train)
    return timed


def test_beginning_a_training_is_not_taken_for_its_steps(steps, tmp_path):
    found = estimate(Plan(fake_config(training=fake_training(epochs=10, steps_per_epoch=100))), tmp_path, "cpu")
    assert found.seconds_training == pytest.approx(4 * 1000 * 0.1)
    assert steps[:2] == [1, 1] and steps[2] >= 4
    assert found.steps_a_round == 1000 and found.labels == [12, 18, 24, 30]
    assert (found.pool, found.test, found.classes) == (60, 30, 3)
    assert list(tmp_path.iterdir()) == []


def test_a_strategy_that_measures_nothing_costs_no_pass_over_the_pool(steps, tmp_path, monkeypatch):
    monkeypatch.setattr(mcdal.estimate, "_seconds_an_image", lambda *_: 0.5)
    measuring, random = (estimate(Plan(fake_config(s)), tmp_path, "cpu") for s in (None, Random()))
    assert random.seconds_measuring == 0.5 * 4 * 30
    assert measuring.seconds_measuring == random.seconds_measuring + 0.5 * 3 * 60
    assert measuring.seconds == measuring.seconds_training + measuring.seconds_measuring


def test_of_real_steps(tmp_path):
    found = estimate(Plan(fake_config(), seed=2**70), tmp_path, "cpu")
    assert 0 < found.seconds < 60
    assert found.parameters == 168 and found.device == "cpu" and found.precision == "float64"


def test_notes_are_shown_as_they_are(steps, tmp_path, capsys):
    found = estimate(Plan(replace(fake_config(), notes=("see [red]colour[/red] [b c h w]",))), tmp_path, "cpu")
    show(found, as_json=False)
    assert "see [red]colour[/red] [b c h w]" in capsys.readouterr().out
