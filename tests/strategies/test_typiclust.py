"""TypiClust: typicality as written, clusters in turn, what is labeled counted."""

import numpy as np
import pytest

from mcdal.errors import ConfigError
from mcdal.measuring import select
from mcdal.selection.clusters import in_turn, typicality, unit
from mcdal.strategies.typiclust import TypiClust
from mcdal.values import Rows


def blobs(sizes, labeled=(), seed=0):
    """Clusters of unit vectors around the axes, of these sizes; `labeled` are indices."""
    random = np.random.default_rng(seed)
    axes = np.repeat(np.eye(len(sizes)), sizes, axis=0)
    vector = (axes + random.normal(0, 0.03, axes.shape)).astype(np.float32)
    mask = np.isin(np.arange(len(axes)), labeled)
    group = np.repeat(np.arange(len(sizes)), sizes)
    return Rows(tuple(f"x{i:03d}" for i in range(len(axes))), mask, vector=vector), group


def naive_typicality(points, neighbours):
    found = []
    for i in range(len(points)):
        squares = sorted(sum((points[i] - points[j]) ** 2) for j in range(len(points)) if j != i)[:neighbours]
        found.append(1 / (sum(squares) / len(squares) + 1e-5))
    return found


def test_typicality_is_the_inverse_of_the_mean_squared_distance_to_the_nearest():
    points = np.random.default_rng(0).normal(size=(15, 3)).astype(np.float32)
    for neighbours in (1, 4, 14):
        np.testing.assert_allclose(typicality(points, neighbours), naive_typicality(points, neighbours), rtol=1e-4)
    assert typicality(points[:1], 5).tolist() == [0.0]


def test_one_pick_a_cluster_the_largest_first_and_the_most_typical():
    rows, group = blobs((20, 30, 12))
    picks = select(TypiClust(), rows, 3)
    positions = [rows.ids.index(id) for id in picks.ids]
    assert group[positions].tolist() == [1, 0, 2]
    points = unit(rows.vector, np.arange(62))
    for position, score in zip(positions, picks.score, strict=True):
        members = np.flatnonzero(group == group[position])
        typical = naive_typicality(points[members], min(20, len(members) // 2))
        assert position == members[int(np.argmax(typical))]
        assert score == pytest.approx(max(typical), rel=1e-3)


def test_clusters_with_labels_come_last():
    rows, group = blobs((20, 30, 12, 15), labeled=(25,))
    picks = select(TypiClust(), rows, 3)
    assert group[[rows.ids.index(id) for id in picks.ids]].tolist() == [0, 3, 2]


def test_small_clusters_are_left_out_while_there_are_others():
    rows, group = blobs((20, 4, 12))
    strategy = TypiClust(clusters=3)
    assert group[[rows.ids.index(id) for id in select(strategy, rows, 8).ids]].tolist() == [0, 2, 1, 0, 2, 1, 0, 2]
    order = [rows.ids.index(id) for id in select(strategy, rows, 3).ids]
    assert group[order].tolist() == [0, 2, 1]


def test_in_turn_skips_what_is_used_up():
    assert [i for i, _ in in_turn([[(1, 0.0), (2, 0.0)], [], [(3, 0.0)]], 9)] == [1, 3, 2]


@pytest.mark.parametrize("labeled", [(), (1, 2, 70, 90, 119)])
def test_a_cluster_is_ranked_by_typicality_as_far_as_it_is_asked_for(labeled):
    random = np.random.default_rng(0)
    points = random.normal(size=(120, 4)).astype(np.float32)
    points[100:] = points[7]  # equal samples tie
    mask = np.isin(np.arange(120), labeled)
    typical = typicality(points, 20)
    expected = sorted(np.flatnonzero(~mask).tolist(), key=lambda i: (-float(f"{typical[i]:.6g}"), i))
    queue = list(TypiClust()._queue(points, mask, np.arange(120)))
    assert [i for i, _ in queue] == expected
    np.testing.assert_allclose([t for _, t in queue], typical[expected], rtol=1e-5)


def test_fewer_distinct_points_than_clusters_still_give_the_budget():
    vector = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    rows = Rows(tuple(f"x{i:02d}" for i in range(20)), np.zeros(20, dtype=bool), vector=vector)
    assert len(set(select(TypiClust(), rows, 8).ids)) == 8


def test_bad_fields():
    with pytest.raises(ConfigError, match=r"strategy.clusters = 0"):
        TypiClust(clusters=0)


def test_of_equal_samples_the_smallest_id_is_picked():
    random = np.random.default_rng(1)
    vector = np.repeat(random.normal(size=(50, 37)).astype("f4"), 7, axis=0)
    ids = tuple(f"x{i:03d}" for i in random.permutation(350))
    picks = select(TypiClust(), Rows(ids, np.zeros(350, dtype=bool), vector=vector), 40).ids
    for pick in picks:
        alike = [ids[i] for i in range(350) if (vector[i] == vector[ids.index(pick)]).all()]
        assert pick == min(set(alike) - set(picks) | {pick})
