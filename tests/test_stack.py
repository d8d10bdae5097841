"""A stack gives the rows that its parts joined would give, and copies no more than is asked for."""

import resource

import numpy as np
import pytest

from mcdal import stack as module
from mcdal.errors import PoolError
from mcdal.stack import Stack, on_disk, taken

SIZES = (4, 1, 0, 7)


@pytest.fixture
def whole():
    return np.random.default_rng(0).standard_normal((sum(SIZES), 3)).astype(np.float16)


@pytest.fixture
def paths(whole, tmp_path):
    found, start = [], 0
    for i, size in enumerate(SIZES):
        found.append(tmp_path / f"{i}.npy")
        np.save(found[-1], whole[start : start + size])
        start += size
    return found


WHERE = [
    slice(None), slice(0, 0), slice(2, 9), slice(4, 5), slice(5, 5), slice(-3, None), slice(3, 100), slice(0, 12, 5), slice(9, 2),
    slice(None, None, -1), np.array([11, 0, 4, 4, 5]), np.array([], dtype=np.int64), np.array([-1, 2]), np.arange(12) % 2 == 0,
]  # fmt: skip


@pytest.mark.parametrize("where", WHERE, ids=str)
def test_rows_are_those_of_the_joined_parts(where, whole, paths):
    for table in (Stack.of_files(paths), Stack([whole]), Stack([whole[:5], whole[5:]])):
        np.testing.assert_array_equal(table[where], whole[where])
        assert table[where].dtype == np.float16
    order = np.array([7, 3, 3, 11, 0, 1, 2, 5, 6, 8, 9, 10])
    np.testing.assert_array_equal(Stack.of_files(paths).take(order)[where], whole[order][where])


def test_one_row_and_the_shape(whole, paths):
    table = Stack.of_files(paths)
    assert table.shape == (12, 3) and len(table) == 12 and table.dtype == np.float16
    np.testing.assert_array_equal(table[5], whole[5])
    with pytest.raises(IndexError, match="row 12 of a stack of 12"):
        table[np.array([0, 12])]


def test_rows_are_taken_again_and_made_on_reading(whole, paths):
    table = Stack(Stack.of_files(paths)._tables, each=lambda rows: rows[:, :2].astype(np.float32) * 2)
    assert table.shape == (12, 2) and table.dtype == np.float32
    twice = table.take(np.arange(12)[::-1]).take(np.array([0, 3]))
    np.testing.assert_array_equal(twice[:], whole[[11, 8], :2].astype(np.float32) * 2)


def test_a_whole_copy_is_refused_and_a_slice_within_a_file_is_a_view(paths):
    table = Stack.of_files(paths)
    with pytest.raises(TypeError, match="may be larger than memory"):
        np.asarray(table)
    assert not table[6:9].flags.owndata


def test_what_lies_on_the_disk_is_taken_without_a_copy(whole, paths):
    mapped = np.load(paths[0], mmap_mode="r")
    assert on_disk(mapped) and not on_disk(whole)
    assert isinstance(taken(mapped, np.array([2, 1])), Stack) and isinstance(taken(whole, np.array([2, 1])), np.ndarray)
    np.testing.assert_array_equal(taken(mapped, np.array([2, 1]))[:], whole[[2, 1]])


def test_more_files_than_a_process_may_hold_open(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "OPEN", 4)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    paths = [tmp_path / f"{i:03d}.npy" for i in range(120)]
    for i, path in enumerate(paths):
        np.save(path, np.full((2, 1), i, dtype=np.float32))
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limit[1]))
    try:
        table = Stack.of_files(paths)
        order = np.random.default_rng(0).permutation(240)
        np.testing.assert_array_equal(table[order][:, 0], order // 2)
        monkeypatch.setattr(module, "MAPPED", 2 * 8)
        np.testing.assert_array_equal(table[order][:, 0], order // 2)
        assert len(table._tables[0]._maps._open) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_files_that_do_not_fit_are_named(whole, paths, tmp_path):
    np.save(tmp_path / "wide.npy", np.zeros((2, 4), dtype=np.float16))
    np.save(tmp_path / "double.npy", np.zeros((2, 3)))
    (tmp_path / "text.npy").write_text("no table")
    for name, said in {
        "wide": r"shape \(2, 4\)",
        "double": "float64",
        "text": "not a table",
        "gone": "No such file",
    }.items():
        with pytest.raises(PoolError, match=rf"{name}\.npy.*{said}"):
            Stack.of_files([*paths, tmp_path / f"{name}.npy"])
    with pytest.raises(PoolError, match="no rows"):
        Stack.of_files([])
