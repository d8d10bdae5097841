"""Arrays from every kind of file, what is named in them, and what is told of wrong ones."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mcdal.errors import PoolError
from mcdal.tables import AT_ONCE, read_table

P = np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]], dtype=np.float32)
IDS = ("b", "a", "c")


def test_a_npy_stays_on_disk(tmp_path):
    np.save(tmp_path / "p.npy", P)
    table = read_table(tmp_path / "p.npy", "probabilities")
    assert isinstance(table.values, np.memmap) and table.ids is None
    np.testing.assert_array_equal(table.values, P)


@pytest.mark.parametrize("more", [{}, {"ids": np.array(IDS)}, {"other": np.zeros(2), "ids": np.array(IDS)}])
def test_npz(tmp_path, more):
    np.savez(tmp_path / "p.npz", probabilities=P, **more)
    table = read_table(tmp_path / "p.npz", "probabilities")
    np.testing.assert_array_equal(table.values, P)
    assert table.ids == (IDS if "ids" in more else None)


def test_npz_with_one_array_of_another_name(tmp_path):
    np.savez(tmp_path / "p.npz", whatever=P, ids=np.arange(3))
    table = read_table(tmp_path / "p.npz", "probabilities")
    assert table.ids == ("0", "1", "2") and table.values.shape == (3, 2)
    np.savez(tmp_path / "p.npz", one=P, two=P)
    with pytest.raises(PoolError, match=r"p\.npz has no array 'probabilities'; it has one, two"):
        read_table(tmp_path / "p.npz", "probabilities")


@pytest.mark.parametrize("old", [False, True], ids=["zip", "older format"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_pt(tmp_path, kind, old):
    torch.save(torch.from_numpy(P).to(kind), tmp_path / "p.pt", _use_new_zipfile_serialization=not old)
    np.testing.assert_array_equal(read_table(tmp_path / "p.pt", "probabilities").values, P)
    torch.save({"ids": list(IDS), "logits": torch.from_numpy(P), "epoch": torch.ones(())}, tmp_path / "d.pt")
    table = read_table(tmp_path / "d.pt", "logits")
    assert table.ids == IDS
    np.testing.assert_array_equal(table.values, P)


class Harmful:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_is_executed(tmp_path, capsys):
    (tmp_path / "p.pt").write_bytes(pickle.dumps(Harmful()))
    torch.save(Harmful(), tmp_path / "q.pt")
    np.save(tmp_path / "r.npy", np.array([Harmful()], dtype=object), allow_pickle=True)
    for name in ("p.pt", "q.pt", "r.npy"):
        with pytest.raises(PoolError, match=rf"{name}: no logits can be read from it"):
            read_table(tmp_path / name, "logits")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "columns", "expected"),
    [
        ("probabilities", {"probabilities": pa.array(P.tolist()), "vector": pa.array(P.tolist())}, P),
        ("probabilities", {"vector": pa.array(P.tolist(), pa.list_(pa.float32()))}, P),
        ("probabilities", {"cat": pa.array(P[:, 0]), "dog": pa.array(P[:, 1])}, P),
        (
            "features",
            {"a": pa.array([1, 2, 3]), "b": pa.array([4, 5, 6], pa.int8())},
            np.array([[1, 4], [2, 5], [3, 6]]),
        ),
        ("labeled", {"labeled": pa.array([True, False, True])}, np.array([True, False, True])),
        ("labels", {"labels": pa.array([2, -1, 0], pa.int8()), "note": ["x", "y", "z"]}, np.array([2, -1, 0])),
    ],
    ids=["by name", "only list", "side by side", "whole", "mask", "labels"],
)
def test_parquet(tmp_path, name, columns, expected):
    pq.write_table(pa.table({"id": list(IDS), **columns}), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", name)
    assert table.ids == IDS
    np.testing.assert_array_equal(table.values, expected)
    assert table.values.dtype.kind == expected.dtype.kind
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", name).ids is None


def test_parquet_is_read_in_parts(tmp_path):
    n = AT_ONCE + 1000
    features = np.random.default_rng(0).normal(size=(n, 2)).astype("f4")
    column = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), 2)
    pq.write_table(pa.table({"id": np.arange(n), "features": column}), tmp_path / "t.parquet", row_group_size=10_000)
    table = read_table(tmp_path / "t.parquet", "features")
    np.testing.assert_array_equal(table.values, features)
    assert table.ids[-1] == str(n - 1)


def test_lengths_that_change_between_parts(tmp_path):
    rows = [[0.0, 1.0]] * AT_ONCE + [[0.0]]
    pq.write_table(pa.table({"features": rows}), tmp_path / "t.parquet")
    with pytest.raises(PoolError, match=rf"row {AT_ONCE} has 1 features and others have 2"):
        read_table(tmp_path / "t.parquet", "features")


def _write(folder, name, content):
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif name.endswith(".npy"):
        np.save(path, content)
    else:
        pq.write_table(pa.table(content), path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("p.csv", b"1,2", r"give a file that ends in \.npy, \.npz, \.pt, \.parquet"),
        ("p.npy", b"nonsense", r"no logits can be read"),
        ("p.npy", np.array(3.0), r"float64 of shape \(\)"),
        ("p.npy", np.array([1 + 2j]), r"complex128 of shape"),
        ("p.pt", b"nonsense", r"no logits can be read"),
        (
            "p.parquet",
            {"logits": pa.array([1, None, 2])},
            "the value of row 1 is missing; a label that there is not is -1",
        ),
        ("p.parquet", {"logits": pa.array([[1.0]])[:0]}, "has no rows"),
    ],
)
def test_wrong_files(tmp_path, name, content, told):
    path = _write(tmp_path, name, content)
    with pytest.raises(PoolError, match=told) as error:
        read_table(path, "logits")
    assert str(path) in str(error.value)
    with pytest.raises(PoolError, match="there is no such file"):
        read_table(tmp_path / "none.npy", "logits")
