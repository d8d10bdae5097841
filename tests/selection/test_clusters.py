"""Coverage in tiles, lists and products, against all pairs written out in float64."""

import numpy as np
import pytest

from mcdal.selection import clusters, covering, herding
from mcdal.selection.clusters import in_turn, perhaps_most_typical, typicality, with_nearest
from mcdal.selection.covering import Balls, pairs_within
from mcdal.selection.herding import herd, nearest_pair
from tests.strategies.test_max_herding import naive


def unit(n=90, d=6, seed=0, groups=9, noise=0.2):
    random = np.random.default_rng(seed)
    z = random.normal(size=(groups, d))[random.integers(0, groups, n)] + noise * random.normal(size=(n, d))
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)


def squares(z):
    z = z.astype(np.float64)
    return ((z[:, None] - z[None]) ** 2).sum(2)


@pytest.mark.parametrize("neighbours", [1, 7, 89, 200])
def test_typicality_in_tiles(neighbours, monkeypatch):
    monkeypatch.setattr(clusters, "TILE", (16, 20))
    z = unit()
    z[40:50] = z[0]  # equal ones: a mean distance of exactly 0
    apart = squares(z) + np.diag(np.full(90, np.inf))
    nearest = np.sort(apart, axis=1)[:, : min(neighbours, 89)]
    np.testing.assert_allclose(typicality(z, neighbours), 1 / (nearest.mean(1) + 1e-5), rtol=1e-9)


@pytest.mark.parametrize("neighbours", [1, 7, 89, 200])
@pytest.mark.parametrize("tile", [(16, 20), (1_024, 4_096)])
def test_the_most_typical_is_among_those_that_may_be(neighbours, tile, monkeypatch):
    monkeypatch.setattr(clusters, "TILE", tile)
    z, some = unit(), np.flatnonzero(np.arange(90) % 3)
    typical = typicality(z, neighbours)
    np.testing.assert_array_equal(typicality(z, neighbours, some), typical[some])
    likely = perhaps_most_typical(z, neighbours, some)
    assert some[typical[some].argmax()] in likely and len(likely) <= 3
    z[40:50] = z[0]
    equal = {0, *range(40, 50)}
    if neighbours <= 10:  # whose nearest are at a distance of 0
        assert set(perhaps_most_typical(z, neighbours, np.arange(90)).tolist()) == equal
    assert perhaps_most_typical(z, neighbours, some[:1]).tolist() == some[:1].tolist()
    assert len(perhaps_most_typical(z, neighbours, some[:0])) == 0


@pytest.mark.parametrize("neighbours", [1, 7, 89, 200])
@pytest.mark.parametrize("of", [[3], [0, 41], [], [5, 17, 88]])
def test_typicality_among_those_that_may_be_nearest_is_that_among_all(neighbours, of):
    z, of = unit(d=40), np.array(of, dtype=np.int64)
    z[40:50] = z[0]
    near = with_nearest(z, neighbours, of)
    assert set(of) <= set(near) and (neighbours > 7 or len(near) < 60)
    found = typicality(z[near], neighbours, np.searchsorted(near, of))
    np.testing.assert_allclose(found, typicality(z, neighbours, of), rtol=1e-9)


def test_no_queue_is_made_that_nobody_is_taken_from():
    made = []

    def queues():
        for i in range(9):
            made.append(i)
            yield [(i, 1.0), (10 + i, 0.5)] if i != 1 else []

    assert [i for i, _ in in_turn(queues(), 3)] == [0, 2, 3]
    assert made == [0, 1, 2, 3]
    assert [i for i, _ in in_turn(queues(), 11)] == [0, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13]


def test_nothing_is_asked_of_a_queue_that_is_not_taken():
    asked = []

    def queue(name):
        for i in range(3):
            asked.append((name, i))
            yield i, 0.0

    assert len(in_turn(map(queue, "ab"), 3)) == 3
    assert asked == [("a", 0), ("b", 0), ("a", 1)]


@pytest.mark.parametrize("kept", [True, False])
def test_balls(kept, monkeypatch):
    monkeypatch.setattr(covering, "TILE", (16, 20))
    monkeypatch.setattr(covering, "PAIRS", 256 if kept else 0)
    z = unit()
    near = squares(z) < 0.09
    balls = Balls(z, 0.3)
    assert (balls._lists is not None) == kept
    counted = np.arange(90) % 3 == 0
    assert balls.degrees(counted).tolist() == near[:, counted].sum(1).tolist()
    assert balls.degrees(np.zeros(90, dtype=bool)).tolist() == [0] * 90
    some = np.array([4, 77, 5])
    assert balls.reached(some).tolist() == near[some].any(0).tolist()
    assert not balls.reached(some[:0]).any()
    degree = near.sum(1)
    balls.lost(degree, some)
    assert degree.tolist() == (near.sum(1) - near[:, some].sum(1)).tolist()


def test_pairs_are_there_once_and_not_more_than_allowed(monkeypatch):
    monkeypatch.setattr(covering, "TILE", (16, 20))
    z = unit()
    expected = [(i, j) for i in range(90) for j in range(i + 1, 90) if squares(z)[i, j] < 0.09]
    pairs = pairs_within(z, 0.09, 90 * 90)
    assert sorted(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == expected
    assert pairs_within(z, 0.09, 2 * len(expected) - 1) is None
    lists = pairs.both_ways()
    assert lists.toarray().astype(bool).tolist() == (squares(z) < 0.09).tolist()


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("bandwidth", [0.02, 0.09, 0.5, 2.0])
@pytest.mark.parametrize("seed", range(2))
def test_herding_in_tiles_and_lists_is_the_full_search(seed, bandwidth, kept, monkeypatch):
    monkeypatch.setattr(herding, "TILE", (16, 20))
    monkeypatch.setattr(herding, "PAIRS", 256 if kept else 0)
    random = np.random.default_rng(seed)
    z, weight = unit(seed=seed, noise=0.1), random.random(90).astype(np.float32)
    weight[::7] = 0
    labeled = np.arange(90) < 5
    picks, gains = herd(z, labeled, weight, bandwidth, 40)
    expected, true = naive(z.astype(float), labeled, weight.astype(float), bandwidth, 40)
    np.testing.assert_allclose(gains, true, rtol=2e-3, atol=1e-7)
    sure = next((i for i, gain in enumerate(true) if gain < 1e-5), 40)  # below, float32 does not tell gains apart
    assert sure > 4 and picks[:sure] == expected[:sure]


@pytest.mark.parametrize(("labeled", "bandwidth"), [(0, 0.7), (5, 0.7), (5, 0.06), (40, 0.3)])
def test_gains_are_lowered_together_where_single_ones_take_long(labeled, bandwidth, monkeypatch):
    """Bounds that are lowered stay above the truth, and the picks are those of looking at every candidate."""
    z, weight = unit(n=120, noise=0.5), np.ones(120, dtype=np.float32)
    lowered, mask = [], np.arange(120) < labeled
    monkeypatch.setattr(herding, "PAIRS", 0)
    real = herding._Blocks.lower

    def lower(self, bound, where):
        done = real(self, bound, where)
        lowered.append(done)
        free = np.flatnonzero(bound > -np.inf)
        assert (bound[free] >= self.gains(free) * (1 - 1e-4) - 1e-9).all()
        return done

    monkeypatch.setattr(herding._Blocks, "lower", lower)
    picks, _ = herd(z, mask, weight, bandwidth, 30)
    assert any(lowered) or bandwidth == 0.06
    assert picks == naive(z.astype(float), mask, weight, bandwidth, 30)[0]


def test_the_nearest_pair_that_is_not_the_same_twice():
    z = unit(n=700, d=9, noise=0.3)
    z[600] = z[3]
    z[650] = z[4] + np.float32(1e-5)
    apart = np.sqrt(squares(z))
    expected = apart[apart > 1e-3].min()
    assert nearest_pair(z) == pytest.approx(expected, rel=1e-6)
