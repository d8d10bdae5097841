"""FALCUN against its algorithm written naively, from the same uniform numbers."""

import numpy as np
import pytest
import torch

from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import select
from mcdal.strategies import falcun
from mcdal.strategies.falcun import Falcun
from mcdal.streams import numpy_generator
from mcdal.values import Batch, Output, Rows


def rows(n=40, c=4, seed=0):
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(c), n).astype(np.float32)
    return scored(p, tuple(f"x{i:03d}" for i in random.permutation(n)), random.random(n) < 0.2)


def scored(p, ids, labeled=None):
    output = Output(torch.from_numpy(p).log(), torch.zeros(len(p), 2))
    measured = Falcun().measure(Batch(ids, torch.zeros(len(p), 1, 2, 2), output=output))
    labeled = np.zeros(len(p), dtype=bool) if labeled is None else labeled
    return Rows(ids, labeled, measured.score.numpy(), probabilities=measured.probabilities.numpy())


def naive(given, budget, seed, gamma):
    random = numpy_generator(seed, "falcun")
    free = sorted((i for i in range(len(given.ids)) if not given.labeled[i]), key=lambda i: given.ids[i])
    p = given.probabilities.astype(float)
    u = {i: 1 - (sorted(p[i])[-1] - sorted(p[i])[-2]) for i in free}
    d = dict(u)
    picks, scores = [], []
    while len(picks) < budget:
        low, high = min(d[i] for i in free), max(d[i] for i in free)
        r = [u[i] + (d[i] - low) / (high - low) for i in free]
        number, k, total = random.random() * sum(x**gamma for x in r), 0, r[0] ** gamma
        while number >= total:
            k += 1
            total += r[k] ** gamma
        picks.append(free.pop(k))
        scores.append(r[k])
        for j in free:
            d[j] = min(d[j], sum(abs(p[j] - p[picks[-1]])))
    return tuple(given.ids[i] for i in picks), scores


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.5, 7.0, 10.0])
def test_picks_are_those_of_the_naive_version(seed, gamma):
    given = rows(seed=seed)
    picks = select(Falcun(gamma=gamma), given, 12, seed)
    ids, score = naive(given, 12, seed, gamma)
    assert picks.ids == ids
    np.testing.assert_allclose(picks.score, score, rtol=1e-5)


def test_all_are_picked_once_and_a_large_table_is_read_in_parts(monkeypatch):
    given = rows(seed=3)
    free = int((~given.labeled).sum())
    picks = select(Falcun(), given, free, 3)
    assert len(set(picks.ids)) == free
    ids, score = naive(given, free - 2, 3, 10.0)  # of two that are left, and one, d does not differ
    assert picks.ids[: free - 2] == ids
    np.testing.assert_allclose(picks.score[: free - 2], score, rtol=1e-5)
    monkeypatch.setattr(falcun, "COPIED", 0)
    assert select(Falcun(), given, free, 3).ids == picks.ids


def test_what_is_like_a_pick_is_avoided():
    """Two groups of equal rows: u is .9 and .8, so after a pick d is 0 in its group and min(.8, L1) = .7 in the other."""
    p = np.array([[0.55, 0.45, 0.0]] * 5 + [[0.2, 0.4, 0.4]] * 5, dtype=np.float32)
    given = scored(p, tuple("abcdefghij"))
    for seed in range(20):
        first, second = select(Falcun(gamma=200.0), given, 2, seed).ids
        assert (first in "abcde") != (second in "abcde")


def test_equal_rows_are_drawn_uniformly():
    certain = scored(np.array([[1.0, 0.0]] * 4, dtype=np.float32), tuple("abcd"))
    firsts = [select(Falcun(), certain, 4, seed).ids[0] for seed in range(600)]
    for id in "abcd":
        assert firsts.count(id) / 600 == pytest.approx(0.25, abs=0.05)


def test_a_huge_gamma_takes_the_largest():
    given = rows()
    best = max((i for i in range(40) if not given.labeled[i]), key=lambda i: given.score[i])
    assert select(Falcun(gamma=1e6), given, 3).ids[0] == given.ids[best]


def test_bad_gamma_is_refused():
    for gamma in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=r"strategy.gamma"):
            Falcun(gamma=gamma)


def test_nan_is_named():
    given = rows()
    given.probabilities[7, 0] = np.nan
    with pytest.raises(SelectionError, match=given.ids[7]):
        select(Falcun(), given, 3)
