"""ProbCover against the graph written out."""

import numpy as np
import pytest

import mcdal.selection.covering
from mcdal.errors import ConfigError
from mcdal.measuring import select
from mcdal.strategies.probcover import ProbCover
from mcdal.values import Rows


def rows(n=60, labeled=4, seed=0):
    random = np.random.default_rng(seed)
    mask = np.isin(np.arange(n), random.choice(n, labeled, replace=False))
    return Rows(tuple(f"x{i:03d}" for i in random.permutation(n)), mask, vector=random.normal(size=(n, 3)).astype("f4"))


def naive(rows, delta, budget):
    """Picks and gains until everything is covered."""
    z = rows.vector / np.linalg.norm(rows.vector, axis=1, keepdims=True)
    n = len(z)
    edge = [[i == j or np.linalg.norm(z[i] - z[j]) < delta for j in range(n)] for i in range(n)]
    covered = [any(edge[i][j] for i in range(n) if rows.labeled[i]) for j in range(n)]
    picks, gains = [], []
    for _ in range(budget):
        gain = {i: sum(edge[i][j] and not covered[j] for j in range(n)) for i in range(n) if not rows.labeled[i]}
        best = min(gain, key=lambda i: (-gain[i], rows.ids[i]))
        if gain[best] == 0:
            break
        picks.append(rows.ids[best])
        gains.append(gain[best])
        covered = [c or edge[best][j] for j, c in enumerate(covered)]
    return tuple(picks), gains


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_picks_are_those_of_the_naive_version(seed, kept, monkeypatch):
    if not kept:
        monkeypatch.setattr(mcdal.selection.covering, "PAIRS", 0)
    given = rows(seed=seed)
    picks = select(ProbCover(delta=0.5), given, 8)
    expected, gains = naive(given, 0.5, 8)
    assert picks.ids[: len(expected)] == expected
    assert picks.score.tolist() == [*gains, *[0] * (8 - len(gains))]


def test_the_last_points_have_edges_too():
    """A published version skips the last partial block of distances."""
    z = np.concatenate([np.eye(3), np.repeat([[0.0, 0.6, 0.8]], 7, axis=0)]).astype(np.float32)
    given = Rows(tuple(f"x{i}" for i in range(10)), np.zeros(10, dtype=bool), vector=z)
    picks = select(ProbCover(delta=0.1), given, 1)
    assert picks.score.tolist() == [7]


def test_once_all_is_covered_the_rest_is_random_and_not_one_row_again_and_again():
    given = rows()
    picks = [select(ProbCover(delta=2.1), given, 10, seed).ids for seed in (0, 0, 1)]
    assert picks[0] == picks[1] != picks[2]
    assert len(set(picks[0])) == 10


def test_bad_fields():
    with pytest.raises(ConfigError, match=r"strategy.delta = 0"):
        ProbCover(delta=0.0)
