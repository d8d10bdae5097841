"""Features of a pool by sample id, from a file: not the task model's, but self-supervised ones or the user's own."""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mcdal.errors import ConfigError, PoolError
from mcdal.tables import Table, places, read_table
from mcdal.writing import write_atomically

Features = Float[np.ndarray, "n e"]

READ_AT_ONCE = 4096
"""Rows that are looked at together, so that a large array is not copied as a whole."""


def check_file(path: Path) -> Path:
    """The file, if there is one of a known kind: to be told before the images are read."""
    path = Path(path).expanduser()
    if path.suffix.lower() not in (".npz", ".parquet"):
        raise ConfigError(f"features = {path}: give a .npz or a .parquet file")
    if not path.is_file():
        raise ConfigError(f"features = {path}: there is no such file; `mcdal embed RECIPE --out {path}` makes one")
    return path


def read_features(path: Path, ids: Sequence[str]) -> Features:
    """The features of these samples, in this order, in float32. Other ids in the file are ignored.

    .npz: arrays `ids` (n texts or whole numbers) and `features` (n x e). .parquet: a column `id` and either one column of lists
    of equal length or one column of numbers a feature. PoolError names the file and the first id that is missing, twice there,
    or has a feature that is not a finite number.
    """
    table = read_table(check_file(path), "features")
    if table.ids is None:
        raise PoolError(
            f"{path} has no ids: features are found by them. Give an array `ids` (.npz) or a column `id` (.parquet)"
        )
    found = _in_order(table, ids)
    _refuse_nan(path, found, ids)
    return found


def digest(features: Features, ids: Sequence[str]) -> str:
    """The same for the same numbers, in whatever order and kind of file they came."""
    sha = hashlib.sha256(repr(features.shape).encode())
    order = np.array(sorted(range(len(ids)), key=lambda i: ids[i]), dtype=np.int64)
    for first in range(0, len(order), READ_AT_ONCE):
        sha.update(features[order[first : first + READ_AT_ONCE]].tobytes())
    return sha.hexdigest()[:16]


def write_features(path: Path, ids: Sequence[str], features: Features, made: str) -> None:
    """A .npz as `read_features` takes it. made: how they were made, for whoever finds the file."""
    _refuse_nan(path, features, ids)
    sink = io.BytesIO()
    np.savez(sink, ids=np.array(ids, dtype=np.str_), features=features, made=np.array(made))
    write_atomically(path, sink.getvalue())


def made_by(path: Path) -> str:
    """What `write_features` was told of how they were made; empty for a file from elsewhere."""
    try:
        with np.load(path) as file:
            return str(file["made"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return ""


def _in_order(table: Table, ids: Sequence[str]) -> Features:
    features, path = table.values, table.path
    assert table.ids is not None
    if features.ndim != 2 or features.dtype.kind not in "fiu" or not features.shape[1]:
        raise PoolError(
            f"{path}: features are {features.dtype} of shape {features.shape} for {len(table.ids)} ids; give a row of numbers "
            "an id"
        )
    place = places(path, table.ids)
    missing = [id for id in ids if id not in place]
    if missing:
        raise PoolError(f"{path}: {len(missing)} of {len(ids)} samples are missing, the first is {missing[0]!r}")
    with np.errstate(over="ignore"):  # too large for float32: told as what is not finite
        if table.ids == tuple(ids):
            return np.ascontiguousarray(features, dtype=np.float32)
        return features[[place[id] for id in ids]].astype(np.float32)


def _refuse_nan(path: Path, features: Features, ids: Sequence[str]) -> None:
    for first in range(0, len(ids), READ_AT_ONCE):
        fine = np.isfinite(features[first : first + READ_AT_ONCE]).all(axis=1)
        if not fine.all():
            bad = ids[first + int(np.argmin(fine))]
            raise PoolError(f"{path}: a feature of {bad!r} is not a finite number in float32")
