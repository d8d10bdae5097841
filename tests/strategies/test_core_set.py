"""Core-set against the definition, one pick and one distance at a time."""

from functools import partial
from itertools import combinations

import numpy as np
import pytest

from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import select
from mcdal.selection.k_center import k_center
from mcdal.strategies.core_set import CoreSet
from mcdal.testing import check_strategy
from mcdal.values import Rows


def rows(n=40, d=3, labeled=5, seed=0):
    random = np.random.default_rng(seed)
    ids = tuple(f"x{i:03d}" for i in random.permutation(n))
    mask = np.zeros(n, dtype=bool)
    mask[random.choice(n, labeled, replace=False)] = True
    return Rows(ids, mask, vector=random.normal(size=(n, d)).astype(np.float32))


def naive(rows, budget):
    centres = [i for i in range(len(rows.ids)) if rows.labeled[i]]
    picks = []
    while len(picks) < budget:
        best = None
        for i in range(len(rows.ids)):
            if i in centres:
                continue
            m = min(float(((rows.vector[i] - rows.vector[c]) ** 2).sum()) for c in centres)
            if best is None or (-m, rows.ids[i]) < best[:2]:
                best = (-m, rows.ids[i], i)
        picks.append(best[2])
        centres.append(best[2])
    return tuple(rows.ids[i] for i in picks)


@pytest.mark.parametrize("seed", range(5))
def test_picks_in_the_order_of_the_naive_version(seed):
    given = rows(seed=seed)
    assert select(CoreSet(), given, 12).ids == naive(given, 12)


def test_scores_are_the_distances_and_never_grow():
    given = rows()
    picks = select(CoreSet(), given, 10)
    centres = given.vector[given.labeled]
    first = given.vector[given.ids.index(picks.ids[0])]
    assert picks.score[0] == pytest.approx(np.linalg.norm(centres - first, axis=1).min(), rel=1e-5)
    assert (np.diff(picks.score) <= 1e-6).all()


def test_equal_vectors_are_taken_in_the_order_of_their_ids_and_once():
    given = Rows(tuple("dcba"), np.array([False, False, False, True]), vector=np.ones((4, 2), dtype=np.float32))
    assert select(CoreSet(), given, 9).ids == ("b", "c", "d")


def test_a_cold_start_begins_in_the_middle():
    given = rows(labeled=0)
    middle = ((given.vector - given.vector.mean(0)) ** 2).sum(1).argmin()
    picks = select(CoreSet(), given, 3)
    assert picks.ids[0] == given.ids[middle]
    follow = Rows(given.ids, np.arange(len(given.ids)) == middle, vector=given.vector)
    assert picks.ids[1:] == naive(follow, 2)


def test_chunks_change_nothing(monkeypatch):
    given = rows(n=50)
    whole = k_center(given.ids, given.vector, given.labeled, 20)
    monkeypatch.setattr("mcdal.selection.k_center.CHUNK", 7)
    monkeypatch.setattr("mcdal.selection.k_center.chunks.__defaults__", (7,))
    assert k_center(given.ids, given.vector, given.labeled, 20)[0] == whole[0]


def radius(vectors, centres, outliers=0):
    far = np.sort(np.linalg.norm(vectors[:, None].astype(float) - vectors[None, centres], axis=2).min(1))
    return far[len(far) - 1 - outliers]


@pytest.mark.parametrize("outliers", [0, 2])
def test_the_robust_version_finds_the_best_of_all_choices(outliers):
    given = rows(n=14, d=2, labeled=2, seed=3)
    fixed, free = np.flatnonzero(given.labeled).tolist(), np.flatnonzero(~given.labeled).tolist()
    best = min(radius(given.vector, [*fixed, *chosen], outliers) for chosen in combinations(free, 3))
    picks = select(CoreSet(outliers=outliers / 14), given, 3)
    mine = radius(given.vector, [*fixed, *(given.ids.index(id) for id in picks.ids)], outliers)
    assert mine == pytest.approx(best, rel=1e-6)
    greedy = select(CoreSet(), given, 3)
    assert mine <= radius(given.vector, [*fixed, *(given.ids.index(id) for id in greedy.ids)]) + 1e-9


def test_too_large_a_program_and_bad_fields_are_refused():
    with pytest.raises(SelectionError, match=r"robust core-set of 40 samples .* raise strategy.limit above 10"):
        select(CoreSet(outliers=0.0, limit=10), rows(), 3)
    with pytest.raises(ConfigError, match=r"strategy.outliers = 1.5"):
        CoreSet(outliers=1.5)
    broken = rows()
    broken.vector[7, 0] = np.nan
    with pytest.raises(SelectionError, match=f"features of '{broken.ids[7]}' are not finite"):
        select(CoreSet(), broken, 3)


def test_the_robust_version_keeps_the_contract():
    check_strategy(partial(CoreSet, outliers=0.0))


@pytest.mark.parametrize("shift", [2_020.0, 1e4, 1e5])
def test_features_with_a_large_mean(shift):
    """Products of such rows cancel in float32: no digit of the distance would be left at 1e5."""
    given = rows(n=60, d=6, seed=4)
    moved = given.vector.copy()
    moved[:, 0] += np.float32(shift)
    given = Rows(given.ids, given.labeled, vector=moved)
    assert select(CoreSet(), given, 20).ids == naive(Rows(given.ids, given.labeled, vector=moved.astype(float)), 20)


def test_rows_that_are_there_several_times_are_picked_by_id_in_any_order_of_the_rows():
    random = np.random.default_rng(0)
    vector = np.repeat(random.normal(size=(40, 13)).astype("f4"), 5, axis=0)
    ids = tuple(f"x{i:03d}" for i in random.permutation(200))
    labeled = np.isin(np.arange(200), random.choice(200, 6, replace=False))
    given = Rows(ids, labeled, vector=vector)
    picks = select(CoreSet(), given, 20).ids
    for seed in range(3):
        assert select(CoreSet(), given.take(np.random.default_rng(seed).permutation(200)), 20).ids == picks
    for pick in picks:
        alike = [i for i in range(200) if (vector[i] == vector[ids.index(pick)]).all()]
        assert pick == min(ids[i] for i in alike)


def test_the_robust_program_holds_n_by_n_numbers_and_not_times_d():
    import tracemalloc

    given = rows(n=120, d=2_000)
    tracemalloc.start()
    select(CoreSet(outliers=0.0), given, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6  # n x n x d in float64 would be 230 MB
