"""A batch spread by k-means: the nearest to each centre within its cluster, in any order of the rows."""

import numpy as np
import pytest

from mcdal.selection import k_means, lloyd
from mcdal.selection.k_means import among_candidates, spread
from mcdal.values import Rows


def pool(n=80, d=5, seed=0):
    random = np.random.default_rng(seed)
    vector = random.normal(size=(n, d)).astype(np.float32)
    ids = tuple(f"x{i:03d}" for i in random.permutation(n))
    return Rows(ids, random.random(n) < 0.2, vector=vector)


def by_id(rows, positions):
    return np.array(sorted(positions, key=lambda i: rows.ids[i]))


@pytest.mark.parametrize("seed", range(4))
def test_each_pick_is_the_nearest_to_its_centre_in_its_cluster(seed):
    rows = pool(seed=seed)
    candidates = by_id(rows, range(80))
    picks, size = spread(rows.ids, rows.vector, candidates, 9, seed)
    x = rows.vector[candidates].astype(float)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    centres = lloyd.k_means(x.astype(np.float32), 9, seed)[1]
    members = {c: [] for c in range(9)}
    for i, row in enumerate(x):
        members[min(range(9), key=lambda c: ((row - centres[c]) ** 2).sum())].append(i)
    nearest = {c: min(m, key=lambda i: ((x[i] - centres[c]) ** 2).sum()) for c, m in members.items()}
    expected = sorted(members, key=lambda c: (-len(members[c]), nearest[c]))
    assert picks.tolist() == [candidates[nearest[c]] for c in expected]
    assert size.tolist() == [len(members[c]) for c in expected] and size.sum() == 80


def test_neither_the_order_of_rows_nor_the_chunks_matter(monkeypatch):
    rows = pool()
    candidate = np.arange(80) % 2 == 0
    picks = among_candidates(rows, candidate, 7, seed=3)
    order = np.random.default_rng(1).permutation(80)
    assert among_candidates(rows.take(order), candidate[order], 7, seed=3).ids == picks.ids
    monkeypatch.setattr(k_means, "chunks", lambda n, size: (slice(i, min(i + 7, n)) for i in range(0, n, 7)))
    assert among_candidates(rows, candidate, 7, seed=3).ids == picks.ids
    assert among_candidates(rows, candidate, 7, seed=4).ids != picks.ids


def test_only_unlabeled_candidates_are_spread():
    rows = pool()
    candidate = np.arange(80) < 50
    picks = among_candidates(rows, candidate, 10, seed=0)
    allowed = {id for i, id in enumerate(rows.ids) if candidate[i] and not rows.labeled[i]}
    assert set(picks.ids) <= allowed and len(set(picks.ids)) == 10
    assert picks.score.sum() == len(allowed)


def test_too_few_candidates_are_all_picked_and_the_rest_is_by_lot():
    rows = pool()
    candidate = np.isin(np.arange(80), np.flatnonzero(~rows.labeled)[:4])
    picks = among_candidates(rows, candidate, 10, seed=0)
    assert set(picks.ids[:4]) == {id for i, id in enumerate(rows.ids) if candidate[i]}
    assert picks.score.tolist() == [1.0] * 4 + [0.0] * 6
    assert len(set(picks.ids)) == 10
    assert among_candidates(rows, candidate, 10, seed=1).ids[4:] != picks.ids[4:]
    everything = among_candidates(rows, candidate, 500, seed=0)
    assert len(set(everything.ids)) == len(everything) == int((~rows.labeled).sum())


def test_equal_candidates_leave_clusters_empty_and_are_drawn_by_lot():
    vector = np.repeat(np.eye(3, 5, dtype=np.float32), 10, axis=0)
    rows = Rows(tuple(f"x{i:02d}" for i in range(30)), np.zeros(30, dtype=bool), vector=vector)
    picks = among_candidates(rows, np.ones(30, dtype=bool), 6, seed=0)
    assert set(picks.ids[:3]) == {"x00", "x10", "x20"}  # ties by id
    assert picks.score.tolist() == [10, 10, 10, 1, 1, 1] and len(set(picks.ids)) == 6


def test_centres_of_very_many_candidates_come_from_some_of_them(monkeypatch):
    rows = pool()
    candidates = by_id(rows, range(80))
    whole = spread(rows.ids, rows.vector, candidates, 5, 0)
    monkeypatch.setattr(k_means, "FITTED", 30)
    picks, size = spread(rows.ids, rows.vector, candidates, 5, 0)
    assert size.sum() == 80 and len(set(picks.tolist())) == 5
    assert picks.tolist() != whole[0].tolist()
    order = np.random.default_rng(1).permutation(80)
    moved = rows.take(order)
    again, _ = spread(moved.ids, moved.vector, by_id(moved, range(80)), 5, 0)
    assert [moved.ids[i] for i in again] == [rows.ids[i] for i in picks]


def test_vectors_may_be_mapped_from_a_file(tmp_path):
    rows = pool()
    np.save(tmp_path / "v.npy", rows.vector)
    mapped = Rows(rows.ids, rows.labeled, vector=np.load(tmp_path / "v.npy", mmap_mode="r"))
    candidate = np.ones(80, dtype=bool)
    assert among_candidates(mapped, candidate, 7, 0).ids == among_candidates(rows, candidate, 7, 0).ids
