"""Choosing from files, part by part, gives the picks of choosing in memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcdal.errors import SelectionError
from mcdal.ids import MappedIds, write_ids
from mcdal.passes import best, choose
from mcdal.passes.choose import lot_of, pick, random_of, top_of
from mcdal.passes.rows import rows_of
from mcdal.pool.base import Quarantined
from mcdal.selection import at_random, stochastic_top, top
from mcdal.stack import Stack
from mcdal.strategies.margin import Margin
from tests.passes.stored import stored


def pool_of(n, seed, values, dtype=np.float32):
    random = np.random.default_rng(seed)
    ids = tuple(f"img/{i:05d}é" for i in random.permutation(n).tolist())
    score = random.choice(np.linspace(0, 1, values), n).astype(dtype)
    labels = {id: i % 3 for i, id in enumerate(random.choice(ids, n // 5, replace=False).tolist())}
    away = set(random.choice(ids, n // 10, replace=False).tolist())
    among = np.array([i for i, id in enumerate(ids) if id not in labels and id not in away])
    return ids, score, labels, away, among


def assert_same(mine, theirs):
    assert mine.ids == theirs.ids
    np.testing.assert_array_equal(mine.score, theirs.score)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6), values=st.sampled_from([1, 2, 7, 5_000]), budget=st.integers(1, 400),
    dtype=st.sampled_from([np.float32, np.float64]), at_once=st.sampled_from([1, 16, 64]),
)  # fmt: skip
def test_the_largest_with_many_ties(tmp_path_factory, seed, values, budget, dtype, at_once):
    ids, score, labels, away, among = pool_of(300, seed, values, dtype)
    measured = stored(tmp_path_factory.mktemp("pass"), ids, score, [100, 1, 150, 49])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(best, "AT_LEAST", at_once)
        assert_same(top_of(measured, budget, labels, away), top(ids, score, budget, among))


@pytest.mark.parametrize("sampling", ["top", "power", "softmax", "softrank"])
@pytest.mark.parametrize("values", [3, 1_000])
def test_by_lot(tmp_path, monkeypatch, sampling, values):
    monkeypatch.setattr(best, "AT_LEAST", 50)
    monkeypatch.setattr(choose, "ROWS_AT_ONCE", 64)
    ids, score, labels, away, among = pool_of(600, 1, values)
    score[::7] = -0.0
    measured = stored(tmp_path, ids, score, [250, 300, 50])
    for budget, beta in ((1, 1.0), (40, 3.0), (900, 0.5)):
        mine = lot_of(measured, budget, labels, 5, sampling, beta, away)
        assert_same(mine, stochastic_top(ids, score, budget, 5, sampling, beta, among))


def test_at_random(tmp_path):
    ids, _, labels, away, among = pool_of(500, 2, 5)
    measured = stored(tmp_path, ids, None, [200, 300])
    assert_same(random_of(measured, 30, labels, 3, away), at_random(ids, 30, 3, among))


def test_the_strategy_decides_how(tmp_path):
    ids, score, labels, away, among = pool_of(300, 3, 9)
    measured = stored(tmp_path, ids, score, [300])
    assert_same(pick(Margin(), measured, 9, labels, 4, away), top(ids, score, 9, among))
    drawn = pick(Margin(sampling="power", beta=2.0), measured, 9, labels, 4, away)
    assert_same(drawn, stochastic_top(ids, score, 9, 4, "power", 2.0, among))


def test_nan_is_refused_by_sample_and_shard_where_it_may_be_picked(tmp_path):
    ids, score, labels, away, among = pool_of(300, 4, 9)
    score[next(iter(i for i, id in enumerate(ids) if id in labels))] = np.nan
    measured = stored(tmp_path / "a", ids, score, [100, 200])
    assert_same(top_of(measured, 9, labels, away), top(ids, score, 9, among))
    score[among[-1]] = np.nan  # long after the first have been gathered
    measured = stored(tmp_path / "b", ids, score, [100, 200])
    for refused in (
        lambda: top_of(measured, 9, labels, away),
        lambda: lot_of(measured, 9, labels, 0, "softmax", 1.0, away),
        lambda: lot_of(measured, 9, labels, 0, "softrank", 1.0, away),
    ):
        with pytest.raises(
            SelectionError, match=f"of the shard 'part/1' are NaN, the first of sample '{ids[among[-1]]}'"
        ):
            refused()


def test_an_id_in_two_shards_is_refused(tmp_path):
    measured = stored(tmp_path, ("a", "b", "a"), np.array([3.0, 1.0, 2.0]), [2, 1])
    with pytest.raises(SelectionError, match="'a' stands for two samples"):
        top_of(measured, 2, {})


def test_nothing_is_left_or_asked_for(tmp_path):
    measured = stored(tmp_path, ("a", "b"), np.array([1.0, 2.0]), [2])
    assert top_of(measured, 2, {"a": 0, "b": 1}).ids == ()
    assert lot_of(measured, 2, {"a": 0, "b": 1}, 0, "softrank", 1.0).ids == ()
    with pytest.raises(SelectionError, match="asks for nothing"):
        top_of(measured, 0, {})


def test_memory_is_that_of_a_part(tmp_path):
    """Half a million rows in one file: their ids alone, as Python strings, would be 30 MB."""
    n = 500_000
    ids = [f"train/class_{i % 10}/{i:07d}.jpg" for i in range(n)]
    score = np.random.default_rng(0).random(n).astype(np.float32)
    measured = stored(tmp_path, ids, score, [n])
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    expected = top(ids, score, 100)
    del ids
    tracemalloc.start()
    picks = top_of(measured, 100, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert picks.ids == expected.ids
    assert peak < size + 25_000_000  # the file as it lies on the disk, and one part


def test_rows_are_mapped(tmp_path):
    ids, score, labels, away, _ = pool_of(300, 5, 9)
    vector = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    rows = rows_of(stored(tmp_path, ids, score, [100, 200], vector), labels)
    assert rows.ids == ids and rows.vector.dtype == np.float16 and isinstance(rows.vector, Stack)
    assert not rows.vector[5:9].flags.owndata, "rows of one file are a view of it"
    np.testing.assert_array_equal(rows.vector[:], vector.astype(np.float16))
    assert not list(tmp_path.glob("joined*")), "files of one type are read where they lie"
    assert {id: y for id, y in zip(rows.ids, rows.y.tolist(), strict=True) if y >= 0} == labels
    fewer = rows_of(stored(tmp_path, ids, score, [100, 200], vector), labels, away)
    kept = [i for i, id in enumerate(ids) if id not in away]
    assert fewer.ids == tuple(ids[i] for i in kept)
    np.testing.assert_array_equal(fewer.vector[:], vector[kept].astype(np.float16))
    np.testing.assert_array_equal(fewer.score, score[kept])


def test_what_was_set_aside_makes_no_tuple_of_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr("mcdal.ids.TAKEN_FROM", 10)
    ids, score, labels, away, _ = pool_of(300, 5, 9)
    bad = (ids[3], ids[250])
    kept = [i for i, id in enumerate(ids) if id not in bad]
    quarantined = [Quarantined(id, "not an image") for id in bad]
    measured = stored(tmp_path / "p", [ids[i] for i in kept], score[kept], [99, 199], quarantined=quarantined)
    mapped = write_ids(tmp_path / "ids", ids, print)
    for gone in (frozenset(), away):
        rows, expected = rows_of(measured, labels, gone, ids=mapped), rows_of(measured, labels, gone)
        assert isinstance(rows.ids, MappedIds) and rows.ids == expected.ids
        assert rows_of(measured, labels, gone, ids=ids).ids == expected.ids
        np.testing.assert_array_equal(rows.score, expected.score)
        np.testing.assert_array_equal(rows.y, expected.y)
        np.testing.assert_array_equal(rows.labeled, expected.labeled)


def test_what_float16_cannot_hold_is_kept_in_float32(tmp_path):
    vector = np.array([[1.0, 70_000.0], [2.0, 3.0]], dtype=np.float32)
    rows = rows_of(stored(tmp_path, ("a", "b"), None, [1, 1], vector), {})
    np.testing.assert_array_equal(rows.vector, vector)
