"""UHerding: the calibration written naively, what the second network may see, and the herding with its weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import select
from mcdal.networks.calibration import GRID, Calibration, best_temperature, calibration_error
from mcdal.selection.herding import nearest_pair
from mcdal.strategies.uherding import UHerding
from mcdal.testing import fake_trained
from mcdal.values import Rows
from tests.strategies.test_max_herding import naive


def naive_error(p, y, bins=15):
    total = 0.0
    for b in range(bins):
        inside = [i for i in range(len(p)) if b / bins < max(p[i]) <= (b + 1) / bins]
        if inside:
            right = sum(p[i].argmax() == y[i] for i in inside) / len(inside)
            total += len(inside) / len(p) * abs(right - sum(max(p[i]) for i in inside) / len(inside))
    return total


def overconfident(n=400, seed=0):
    """Logits that are three times too large for how often they are right."""
    random = np.random.default_rng(seed)
    true = random.normal(size=(n, 4))
    p = np.exp(true) / np.exp(true).sum(1, keepdims=True)
    y = np.array([random.choice(4, p=row) for row in p])
    return torch.from_numpy(3 * true), torch.from_numpy(y)


def test_calibration_error_is_the_naive_one():
    logits, y = overconfident()
    p = logits.softmax(1)
    assert calibration_error(p, y) == pytest.approx(naive_error(p.numpy(), y.numpy()), abs=1e-12)


def test_the_temperature_undoes_overconfidence():
    logits, y = overconfident(4_000)
    assert GRID[0] == 1 and GRID[-1] == 20 and len(GRID) == 191
    assert best_temperature(logits, y) == pytest.approx(3, abs=0.4)
    assert best_temperature(logits[:0], y[:0]) == 1


def test_the_second_network_learns_without_the_held_out_and_is_asked_about_them_alone(monkeypatch):
    asked = []

    def spy(logits, y):
        asked.append(len(y))
        return 2.5

    monkeypatch.setattr("mcdal.networks.calibration.best_temperature", spy)
    learned = []
    original = Calibration._learn

    def learn(self, batch, positions, count):
        learned.extend(batch.ids[i] for i in positions)
        original(self, batch, positions, count)

    monkeypatch.setattr(Calibration, "_learn", learn)
    trained = fake_trained(UHerding())
    held = {id for id in trained.labels if trained.strategy._calibration.held_out(id)}
    assert 0 < len(held) < len(trained.labels)
    assert set(learned) == set(trained.labels) - held
    assert asked == [len(held)], "each held-out sample once, after the last step"
    assert trained.strategy.metrics() == {"train/temperature": 2.5}

    rows = trained.rows()
    plain = fake_trained(UHerding(held_out=0.0)).rows()
    assert (rows.score[:5] != plain.score[:5]).all()


def test_picks_are_those_of_the_full_search():
    random = np.random.default_rng(3)
    z = random.normal(size=(60, 4)).astype("f4")
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    unsure = random.random(60).astype("f4")
    labeled = np.arange(60) < 6
    given = Rows(tuple(f"x{i:03d}" for i in range(60)), labeled, unsure, z)
    between = [np.linalg.norm(z[i].astype(float) - z[j]) for i in range(6) for j in range(i)]
    expected, gains = naive(z.astype(float), labeled, unsure, min(between), 20)
    picks = select(UHerding(), given, 20)
    assert picks.ids == tuple(given.ids[i] for i in expected)
    np.testing.assert_allclose(picks.score, gains, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-4, 5e-3])
def test_labeled_rows_that_are_nearly_the_same(noise):
    """h is theirs where they can be told apart in float32, and what decides is never rounding."""
    random = np.random.default_rng(5)
    z = random.normal(size=(60, 8))
    z[1] = z[0] + noise * random.normal(size=8)
    z = (z / np.linalg.norm(z, axis=1, keepdims=True)).astype("f4")
    unsure, labeled = random.random(60).astype("f4"), np.arange(60) < 6
    given = Rows(tuple(f"x{i:03d}" for i in range(60)), labeled, unsure, z)
    between = [np.linalg.norm(z[i].astype(float) - z[j]) for i in range(6) for j in range(i)]
    h = min(b for b in between if b > 1e-3)
    assert select(UHerding(), given, 20).ids == tuple(
        given.ids[i] for i in naive(z.astype(float), labeled, unsure, h, 20)[0]
    )


def test_bandwidth():
    points = np.array([[0, 0], [3, 4], [0, 0], [0, 1]], dtype="f4")
    assert nearest_pair(points) == 1
    assert nearest_pair(points[:1]) is None and nearest_pair(points[[0, 2]]) is None


def test_needs_training_unless_it_holds_nothing_out():
    assert "training" in UHerding().needs and "training" not in UHerding(held_out=0.0).needs
    trained = fake_trained(UHerding())
    with pytest.raises(SelectionError, match="no temperature yet"):
        replace(trained, strategy=UHerding()).rows()


@pytest.mark.parametrize(("name", "value"), [("held_out", 1.0), ("held_out", -0.1), ("bandwidth", 0.0)])
def test_bad_fields(name, value):
    with pytest.raises(ConfigError, match=rf"strategy.{name} = {value}"):
        UHerding(**{name: value})
