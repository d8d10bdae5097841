"""BADGE against k-means++ on the gradients written out."""

import numpy as np
import pytest

from mcdal.errors import SelectionError
from mcdal.measuring import select
from mcdal.strategies.badge import Badge
from mcdal.streams import numpy_generator
from mcdal.values import Rows


def rows(n=40, d=4, c=3, seed=0):
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(c), n).astype(np.float32)
    z = random.normal(size=(n, d)).astype(np.float32)
    labeled = random.random(n) < 0.2
    return Rows(tuple(f"x{i:03d}" for i in random.permutation(n)), labeled, vector=z, probabilities=p)


def naive(rows, budget, seed):
    """On explicit gradients, from the same uniform numbers."""
    random = numpy_generator(seed, "badge")
    order = sorted((i for i in range(len(rows.ids)) if not rows.labeled[i]), key=lambda i: rows.ids[i])
    g = []
    for i in order:
        p = rows.probabilities[i].astype(float)
        onehot = np.eye(len(p))[p.argmax()]
        g.append(np.outer(onehot - p, rows.vector[i].astype(float)).ravel())
    picks = [max(range(len(g)), key=lambda i: (g[i] @ g[i], -i))]
    while len(picks) < budget:
        square = [min(((x - g[j]) ** 2).sum() for j in picks) for x in g]
        u, total = random.random() * sum(square), 0.0
        for i, weight in enumerate(square):
            total += weight
            if u < total:
                picks.append(i)
                break
    return tuple(rows.ids[order[i]] for i in picks)


@pytest.mark.parametrize("seed", range(6))
def test_picks_are_those_of_the_naive_version(seed):
    given = rows(seed=seed)
    picks = select(Badge(), given, 12, seed)
    assert picks.ids == naive(given, 12, seed)


def test_the_first_score_is_the_squared_norm():
    given = rows()
    picks = select(Badge(), given, 1)
    i = given.ids.index(picks.ids[0])
    p = given.probabilities[i].astype(float)
    a = np.eye(3)[p.argmax()] - p
    assert picks.score[0] == pytest.approx((a @ a) * float(given.vector[i] @ given.vector[i]), rel=1e-5)


def test_copies_are_taken_last_and_by_id():
    z = np.array([[1.0, 0], [1, 0], [1, 0], [0, 2]], dtype=np.float32)
    p = np.array([[0.6, 0.4]] * 4, dtype=np.float32)
    given = Rows(tuple("cbad"), np.zeros(4, dtype=bool), vector=z, probabilities=p)
    for seed in range(5):
        picks = select(Badge(), given, 4, seed)
        assert picks.ids[0] == "d"
        assert picks.score[1] > 0 and (picks.score[2:] == 0).all()
        assert list(picks.ids[2:]) == sorted(picks.ids[2:])


def test_later_picks_follow_the_squared_distance():
    z = np.array([[3.0, 0], [1, 0], [0, 2], [2, 2]], dtype=np.float32)
    p = np.array([[0.5, 0.5]] * 4, dtype=np.float32)
    given = Rows(tuple("abcd"), np.zeros(4, dtype=bool), vector=z, probabilities=p)
    seconds = [select(Badge(), given, 2, seed).ids[1] for seed in range(2_000)]
    square = {"b": 4, "c": 13, "d": 5}  # to a, the longest; the common factor |a|^2 = 1/2 cancels
    for name, weight in square.items():
        assert seconds.count(name) / 2_000 == pytest.approx(weight / 22, abs=0.035)


def test_what_is_not_finite_is_named():
    given = rows()
    given.probabilities[5, 0] = np.nan
    with pytest.raises(SelectionError, match=f"probabilities of '{given.ids[5]}' are not finite"):
        select(Badge(), given, 3)


def test_rows_that_equal_a_pick_come_by_id():
    n = 40
    p, z = np.tile(np.array([0.5, 0.3, 0.2], dtype="f4"), (n, 1)), np.full((n, 7), 3.7, dtype="f4")
    ids = tuple(f"x{i:02d}" for i in np.random.default_rng(0).permutation(n))
    picks = select(Badge(), Rows(ids, np.zeros(n, dtype=bool), vector=z, probabilities=p), 6)
    assert picks.ids == tuple(sorted(ids)[:6])
    assert picks.score[1:].tolist() == [0] * 5
