"""BADGE against k-means++ on the gradients written out, and its draws against their probabilities."""

import numpy as np
import pytest
from scipy.stats import chisquare

from mcdal.errors import SelectionError
from mcdal.measuring import select
from mcdal.selection import k_means_pp
from mcdal.selection.k_means_pp import outer_k_means_pp
from mcdal.strategies.badge import Badge
from mcdal.values import Rows


def rows(n=40, d=4, c=3, seed=0):
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(c), n).astype(np.float32)
    z = random.normal(size=(n, d)).astype(np.float32)
    labeled = random.random(n) < 0.2
    return Rows(tuple(f"x{i:03d}" for i in random.permutation(n)), labeled, vector=z, probabilities=p)


def gradients(rows):
    """Of the unlabeled rows, written out, by id."""
    g = {}
    for id, p, z, labeled in zip(rows.ids, rows.probabilities, rows.vector, rows.labeled, strict=True):
        onehot = np.eye(len(p))[p.argmax()]
        g[id] = np.outer(onehot - p.astype(float), z.astype(float)).ravel()
        if labeled:
            del g[id]
    return g


@pytest.mark.parametrize("seed", range(6))
def test_scores_are_the_squared_distances_to_the_nearest_pick(seed, monkeypatch):
    if seed % 2:
        small_blocks(monkeypatch)
    given = rows(n=200, seed=seed)
    picks = select(Badge(), given, 120, seed)
    g = gradients(given)
    assert picks.ids[0] == max(sorted(g), key=lambda id: g[id] @ g[id])
    for k in range(1, 120):
        nearest = min(((g[picks.ids[k]] - g[other]) ** 2).sum() for other in picks.ids[:k])
        assert picks.score[k] == pytest.approx(nearest, rel=1e-5, abs=1e-12)


def small_blocks(monkeypatch):
    """So that most draws meet an old bound."""
    for name, value in {"DRAWS": 5, "BLOCK": 2, "LOWERED": 2, "WASTED": 0.9}.items():
        monkeypatch.setattr(k_means_pp, name, value)


@pytest.mark.parametrize("runs", [1_500, pytest.param(40_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("small", [False, True])
def test_batches_come_as_often_as_by_plain_drawing(runs, small, monkeypatch):
    """Each order of four picks among eight candidates, against its probability under k-means++."""
    if small:
        small_blocks(monkeypatch)
    random = np.random.default_rng(5)
    a, z = random.standard_normal((8, 3)).astype(np.float32), random.standard_normal((8, 2)).astype(np.float32)
    g = [np.outer(a[i].astype(float), z[i].astype(float)).ravel() for i in range(8)]
    square = [[float(((x - y) ** 2).sum()) for y in g] for x in g]
    expected = {}

    def follow(picks, probability):
        if len(picks) == 4:
            expected[picks] = probability
            return
        weight = [min(square[i][j] for j in picks) for i in range(8)]
        for i in set(range(8)) - set(picks):
            follow((*picks, i), probability * weight[i] / sum(weight))

    follow((max(range(8), key=lambda i: g[i] @ g[i]),), 1.0)
    ids, seen = tuple("abcdefgh"), dict.fromkeys(expected, 0)
    for run in range(runs):
        picks, _ = outer_k_means_pp(ids, a, z, np.arange(8), 4, np.random.default_rng(run))
        seen[tuple(picks)] += 1
    common = [order for order, probability in expected.items() if probability * runs >= 5]
    rest = runs - sum(seen[order] for order in common), 1 - sum(expected[order] for order in common)
    observed, wanted = [seen[o] for o in common], [expected[o] * runs for o in common]
    if len(common) < len(expected):
        observed, wanted = [*observed, rest[0]], [*wanted, rest[1] * runs]
    assert chisquare(observed, wanted).pvalue > 1e-3


def test_the_order_of_the_rows_does_not_matter():
    given = rows(n=300)
    order = np.random.default_rng(1).permutation(300)
    assert select(Badge(), given, 60, 3).ids == select(Badge(), given.take(order), 60, 3).ids


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
