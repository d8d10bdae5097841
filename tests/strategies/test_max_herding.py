"""MaxHerding against the full search, every candidate at every pick."""

import numpy as np
import pytest

from mcdal.errors import ConfigError
from mcdal.measuring import select
from mcdal.selection import herding
from mcdal.selection.herding import herd
from mcdal.strategies.max_herding import MaxHerding
from mcdal.values import Rows


def rows(n=80, labeled=5, seed=0):
    random = np.random.default_rng(seed)
    mask = np.isin(np.arange(n), random.choice(n, labeled, replace=False))
    return Rows(tuple(f"x{i:03d}" for i in range(n)), mask, vector=random.normal(size=(n, 4)).astype("f4"))


def naive(z, labeled, weight, h, budget):
    n = len(z)
    k = np.exp(-(((z[:, None] - z[None]) ** 2).sum(2)) / h**2)
    taken, picks, gains = [i for i in range(n) if labeled[i]], [], []
    for _ in range(budget):
        m = [max((k[i, j] for j in taken), default=0.0) for i in range(n)]
        gain = {x: sum(weight[i] * max(k[x, i] - m[i], 0) for i in range(n)) / n for x in range(n) if x not in taken}
        largest = max(gain.values())
        best = min(x for x in gain if gain[x] >= largest * (1 - 1e-5))  # mutual neighbours tie but for rounding
        picks.append(best)
        gains.append(gain[best])
        taken.append(best)
    return picks, gains


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("labeled", [0, 5])
@pytest.mark.parametrize("seed", range(3))
def test_lazy_search_picks_what_the_full_search_picks(labeled, seed, kept, monkeypatch):
    if not kept:  # as of more points than whose kernels are kept
        monkeypatch.setattr(herding, "KEPT", 0)
    given = rows(labeled=labeled, seed=seed)
    z = given.vector / np.linalg.norm(given.vector, axis=1, keepdims=True)
    expected, gains = naive(z.astype(float), given.labeled, np.ones(80), 0.6, 25)
    picks = select(MaxHerding(bandwidth=0.6), given, 25)
    assert picks.ids == tuple(given.ids[i] for i in expected)
    np.testing.assert_allclose(picks.score, gains, atol=1e-5)


@pytest.mark.parametrize("bandwidth", [0.02, 0.5])
def test_kernels_that_are_kept_change_no_pick(bandwidth, monkeypatch):
    """Over more than one tile, narrow and wide."""
    random = np.random.default_rng(0)
    z = random.normal(size=(700, 6)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    labeled, weight = random.random(700) < 0.1, random.random(700).astype(np.float32)
    monkeypatch.setattr(herding, "PAIRS", 0)  # narrow ones in tiles as well
    monkeypatch.setattr(herding, "TILE", (64, 256))
    picks, gains = herding.herd(z, labeled, weight, bandwidth, 60)
    monkeypatch.setattr(herding, "KEPT", 0)
    again, other = herding.herd(z, labeled, weight, bandwidth, 60)
    assert picks == again
    np.testing.assert_allclose(gains, other, rtol=1e-4)


def test_weights_count():
    random = np.random.default_rng(2)
    z, weight = random.normal(size=(40, 3)).astype("f4"), random.random(40).astype("f4")
    labeled = np.arange(40) < 3
    expected, _ = naive(z.astype(float), labeled, weight, 1.0, 12)
    assert herd(z, labeled, weight, 1.0, 12)[0] == expected


def test_bad_fields():
    with pytest.raises(ConfigError, match=r"strategy.bandwidth = 0"):
        MaxHerding(bandwidth=0.0)
