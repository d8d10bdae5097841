"""The lazy search picks what the full one picks, on all that is awkward: ties, copies, large means, small windows."""

import numpy as np
import pytest

from mcdal.selection import k_center as module
from mcdal.selection.k_center import k_center

N, D = 240, 6


def full_search(ids, vectors, centres, budget):
    """Sener and Savarese's Algorithm 1 in float64, one pass over all rows a pick; ties within 1e-6 by id."""
    z = vectors.astype(np.float64)
    far = np.array([min((np.linalg.norm(row - z[c]) for c in np.flatnonzero(centres)), default=np.inf) for row in z])
    picks, distances = [], []
    for _ in range(budget):
        free = [i for i in range(len(z)) if not centres[i] and i not in picks]
        largest = max(far[i] for i in free)
        pick = min((i for i in free if far[i] >= largest * (1 - 1e-6)), key=lambda i: ids[i])
        picks.append(pick)
        distances.append(far[pick])
        far = np.minimum(far, np.linalg.norm(z - z[pick], axis=1))
    return picks, distances


def rows(kind: str) -> np.ndarray:
    random = np.random.default_rng(0)
    z = random.standard_normal((N, D)).astype(np.float32)
    few = z[random.integers(0, N // 4, N)]
    return {
        "scattered": z,
        "around a large mean": z + 1_000,
        "tiny around a mean": z * 1e-3 + 100,
        "copies": few,
        "copies but for the last bits": few * (1 + 1e-6 * random.standard_normal((N, 1)).astype(np.float32)),
        "one-hot": np.eye(D, dtype=np.float32)[random.integers(0, D, N)],
        "on a grid": np.round(z),
        "all equal": z * 0,
        "outliers": z * np.exp(2 * random.standard_normal((N, 1))).astype(np.float32),
    }[kind]


KINDS = (
    "scattered", "around a large mean", "tiny around a mean", "copies", "copies but for the last bits", "one-hot", "on a grid",
    "all equal", "outliers",
)  # fmt: skip


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("labeled", [1, 60])
@pytest.mark.parametrize("kind", KINDS)
def test_the_picks_are_those_of_the_full_search(kind, labeled, small, monkeypatch):
    if small:  # so that there are many windows, blocks and stale bounds
        for name, size in {"WINDOW": 8, "BLOCK": 4, "SAMPLED": 6, "GRAM": 16}.items():
            monkeypatch.setattr(module, name, size)
    random = np.random.default_rng(1)
    z, ids = rows(kind), tuple(map(str, random.permutation(N)))
    centres = np.zeros(N, dtype=bool)
    centres[random.permutation(N)[:labeled]] = True
    picks, distances = k_center(ids, z, centres, 150)
    expected, far = full_search(ids, z, centres, 150)
    assert picks == expected
    np.testing.assert_allclose(distances, far, rtol=1e-6, atol=1e-12)


def test_few_pairs_are_computed_where_the_pool_is_large(monkeypatch):
    compared = 0
    refresh = module._Bounds._refresh

    def counting(self, rows, floor):
        nonlocal compared
        before = self.seen[rows].sum()
        refresh(self, rows, floor)
        compared += int(self.seen[rows].sum() - before)

    monkeypatch.setattr(module._Bounds, "_refresh", counting)
    n, labeled, budget = 20_000, 1_000, 200
    z = np.random.default_rng(0).standard_normal((n, 16)).astype(np.float32)
    k_center(tuple(map(str, range(n))), z, np.arange(n) < labeled, budget)
    assert compared < 0.1 * n * (labeled + budget)
