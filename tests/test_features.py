"""Files of features by id: what is read, in which order, and what is told of wrong ones."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mcdal.errors import ConfigError, PoolError
from mcdal.features import check_file, digest, made_by, read_features, write_features

IDS = ("b", "a", "c")
FEATURES = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=np.float32)


def npz(path, ids=IDS, features=FEATURES, **more):
    np.savez(path, ids=np.array(ids), features=features, **more)
    return path


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int32])
def test_rows_come_in_the_order_that_is_asked_for(tmp_path, kind):
    path = npz(tmp_path / "f.npz", ("a", "ignored", "b"), np.array([[1, 2], [9, 9], [3, 4]], dtype=kind))
    found = read_features(path, ("b", "a"))
    assert found.dtype == np.float32 and found.tolist() == [[3, 4], [1, 2]]
    found[:] = 0  # writable: torch warns of arrays that are not


def test_nan_of_an_id_that_nobody_asks_for_is_no_matter(tmp_path):
    path = npz(tmp_path / "f.npz", features=np.array([[1.0, 2.0], [np.nan, 0.0], [5.0, 6.0]]))
    assert read_features(path, ("c", "b")).tolist() == [[5, 6], [1, 2]]


@pytest.mark.parametrize("ids", [np.arange(3), np.array([b"0", b"1", b"2"])], ids=["numbers", "bytes"])
def test_ids_that_are_no_text(tmp_path, ids):
    np.savez(tmp_path / "f.npz", ids=ids, features=FEATURES)
    assert read_features(tmp_path / "f.npz", ("2", "0")).tolist() == [[5, 6], [1, 2]]


@pytest.mark.parametrize(
    "columns",
    [
        {"vector": pa.array(FEATURES.tolist())},
        {"vector": pa.array(FEATURES.tolist(), pa.large_list(pa.float64()))},
        {"vector": pa.FixedSizeListArray.from_arrays(pa.array(FEATURES.ravel()), 2), "name": pa.array(["x"] * 3)},
        {
            "f0": pa.array(FEATURES[:, 0]),
            "f1": pa.array(FEATURES[:, 1].astype(np.float64)),
            "name": pa.array(["x"] * 3),
        },
    ],
    ids=["list", "large list", "fixed", "columns"],
)
def test_every_kind_of_parquet(tmp_path, columns):
    path = parquet(tmp_path / "f.parquet", id=list(IDS), **columns)
    assert read_features(path, ("c", "a", "b")).tolist() == [[5, 6], [3, 4], [1, 2]]


def test_parquet_of_several_row_groups(tmp_path):
    features = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    table = pa.table({"id": [f"{i}" for i in range(50)], "vector": pa.array(features.tolist(), pa.list_(pa.float32()))})
    pq.write_table(table, tmp_path / "f.parquet", row_group_size=7)
    np.testing.assert_array_equal(read_features(tmp_path / "f.parquet", tuple(f"{i}" for i in range(50))), features)


WRONG = {
    "missing": (lambda f: npz(f / "f.npz", ("b", "x", "y")), r"f\.npz: 2 of 3 samples are missing, the first is 'a'"),
    "twice": (lambda f: npz(f / "f.npz", ("b", "a", "b")), "the id 'b' is there twice"),
    "nan": (lambda f: npz(f / "f.npz", features=FEATURES * [[1], [np.nan], [1]]), r"f\.npz: a feature of 'a' is not a finite"),
    "large": (lambda f: npz(f / "f.npz", features=np.full((3, 2), 1e300)), "a feature of 'b' is not a finite"),
    "flat": (lambda f: npz(f / "f.npz", features=np.zeros(3)), r"float64 of shape \(3,\) for 3 ids"),
    "short": (lambda f: npz(f / "f.npz", features=FEATURES[:2]), r"shape \(2, 2\) for 3 ids"),
    "text": (lambda f: npz(f / "f.npz", features=np.full((3, 2), "x")), "give a row of numbers an id"),
    "no ids": (lambda f: np.savez(f / "f.npz", features=FEATURES), "has no ids: features are found by them"),
    "float ids": (lambda f: npz(f / "f.npz", np.ones(3)), "give one text or whole number a sample"),
    "pickle": (lambda f: npz(f / "f.npz", np.array(IDS, dtype=object)), "no features can be read from it"),
    "no archive": (lambda f: (f / "f.npz").write_bytes(b"PK nonsense"), "no features can be read from it"),
    "ragged": (
        lambda f: parquet(f / "f.parquet", id=list(IDS), v=[[1.0, 2.0], [1.0], [1.0, 2.0]]),
        r"f\.parquet: 'a' has 1 features and others have 2",
    ),
    "null row": (lambda f: parquet(f / "f.parquet", id=list(IDS), v=[[1.0], None, [1.0]]), "'a' has 0 features"),
    "null number": (lambda f: parquet(f / "f.parquet", id=list(IDS), v=[1.0, None, 1.0]), "a feature of 'a' is not a finite"),
    "null within": (lambda f: parquet(f / "f.parquet", id=list(IDS), v=[[1.0], [None], [1.0]]), "a feature of 'a'"),
    "null id": (lambda f: parquet(f / "f.parquet", id=["a", None, "b"], v=[1.0, 1.0, 1.0]), "1 rows have no id"),
    "no id": (lambda f: parquet(f / "f.parquet", name=list(IDS), v=[1.0, 1.0, 1.0]), "has no ids: features are found by them"),
    "two lists": (lambda f: parquet(f / "f.parquet", id=list(IDS), v=[[1.0]] * 3, w=[[1.0]] * 3), "one column of lists"),
    "mixed": (lambda f: parquet(f / "f.parquet", id=list(IDS), v=[1.0, 2.0, 3.0], y=[0, 1, 2]), "y are whole numbers beside"),
    "nothing": (lambda f: parquet(f / "f.parquet", id=list(IDS)), "one column of lists or some of numbers"),
    "no parquet": (lambda f: (f / "f.parquet").write_bytes(b"nonsense"), "no features can be read from it"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_told_with_their_name_and_the_id(tmp_path, case):
    write, told = WRONG[case]
    write(tmp_path)
    (path,) = tmp_path.iterdir()
    with pytest.raises(PoolError, match=told) as error:
        read_features(path, IDS)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_or_of_no_known_kind(tmp_path):
    with pytest.raises(ConfigError, match=r"features = .*f\.npz: there is no such file; `mcdal embed RECIPE --out"):
        check_file(tmp_path / "f.npz")
    with pytest.raises(ConfigError, match=r"give a \.npz or a \.parquet file"):
        check_file(tmp_path / "f.csv")


def test_the_digest_is_of_the_numbers_alone(tmp_path):
    one = digest(FEATURES, IDS)
    assert digest(FEATURES[::-1].copy(), IDS[::-1]) == one
    assert digest(FEATURES[::-1].copy(), IDS) != one
    assert digest(FEATURES + 1, IDS) != one
    assert digest(FEATURES.reshape(2, 3), IDS[:2]) != one
    path = parquet(tmp_path / "f.parquet", id=list(IDS), v=FEATURES.tolist())
    assert digest(read_features(path, IDS), IDS) == one


def test_what_is_written_is_read_and_says_how_it_was_made(tmp_path):
    path = tmp_path / "new" / "f.npz"
    write_features(path, IDS, FEATURES, made="by hand")
    assert read_features(path, IDS).tolist() == FEATURES.tolist() and made_by(path) == "by hand"
    assert made_by(npz(tmp_path / "other.npz")) == made_by(tmp_path / "none.npz") == ""
    with pytest.raises(PoolError, match="a feature of 'a'"):
        write_features(path, IDS, FEATURES * [[1], [np.nan], [1]], made="")
    assert made_by(path) == "by hand"
