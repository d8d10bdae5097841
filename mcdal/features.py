"""Features of a pool by sample id, from a file: not the task model's, but self-supervised ones or the user's own."""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float, Shaped

from mcdal.artifacts import write_atomically
from mcdal.errors import ConfigError, PoolError

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
    path = check_file(path)
    try:
        known, features = (_npz if path.suffix.lower() == ".npz" else _parquet)(path)
    except PoolError:
        raise
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, pa.ArrowException) as error:
        raise PoolError(f"{path}: these are no features by id ({type(error).__name__}: {error})") from error
    found = _in_order(path, known, features, ids)
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


def _npz(path: Path) -> tuple[list[str], Shaped[np.ndarray, "..."]]:
    with np.load(path) as file:  # without pickle: a file of features executes nothing
        missing = [name for name in ("ids", "features") if name not in file.files]
        if missing:
            raise PoolError(f"{path} has no array {missing[0]!r}: give `ids` and `features`; it has {', '.join(file)}")
        ids, features = file["ids"], file["features"]
    if ids.ndim != 1 or ids.dtype.kind not in "UiuS":
        raise PoolError(f"{path}: ids are {ids.dtype} of shape {ids.shape}; give one text or whole number a sample")
    names = ids.astype(np.str_) if ids.dtype.kind != "S" else np.char.decode(ids, "utf-8")
    return names.tolist(), features


def _parquet(path: Path) -> tuple[list[str], Shaped[np.ndarray, "n e"]]:
    table = pq.ParquetFile(path).read()
    if "id" not in table.column_names:
        raise PoolError(f"{path} has no column `id`; it has {', '.join(table.column_names)}")
    ids = table["id"].cast(pa.string())
    if ids.null_count:
        raise PoolError(f"{path}: {ids.null_count} rows have no id")
    lists = [f.name for f in table.schema if _is_list(f.type)]
    numbers = [f.name for f in table.schema if pa.types.is_floating(f.type) and f.name != "id"]
    if len(lists) > 1 or not (lists or numbers):
        raise PoolError(f"{path}: give one column of lists or some of numbers beside `id`; it has {table.column_names}")
    names: list[str] = ids.to_pylist()
    if lists:
        return names, _from_lists(path, names, table[lists[0]])
    return names, np.stack([table[n].cast(pa.float32(), safe=False).to_numpy() for n in numbers], axis=1)


def _is_list(kind: pa.DataType) -> bool:
    return any(is_one(kind) for is_one in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _from_lists(path: Path, ids: Sequence[str], column: pa.ChunkedArray) -> Shaped[np.ndarray, "n e"]:
    sizes = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    most = int(sizes.max(initial=0))
    odd = np.flatnonzero(sizes != most)
    if len(odd):
        raise PoolError(f"{path}: {ids[odd[0]]!r} has {sizes[odd[0]]} features and others have {most}")
    values: np.ndarray = pc.list_flatten(column).cast(pa.float32(), safe=False).to_numpy()
    return values.reshape(len(sizes), most)


def _in_order(path: Path, known: list[str], features: Shaped[np.ndarray, "..."], ids: Sequence[str]) -> Features:
    if features.ndim != 2 or len(features) != len(known) or features.dtype.kind not in "fiu" or not features.shape[1]:
        raise PoolError(
            f"{path}: features are {features.dtype} of shape {features.shape} for {len(known)} ids; give a row of numbers an id"
        )
    place: dict[str, int] = {}
    for i, id in enumerate(known):
        if place.setdefault(id, i) != i:
            raise PoolError(f"{path}: the id {id!r} is there twice")
    missing = [id for id in ids if id not in place]
    if missing:
        raise PoolError(f"{path}: {len(missing)} of {len(ids)} samples are missing, the first is {missing[0]!r}")
    with np.errstate(over="ignore"):  # too large for float32: told as what is not finite
        if known == list(ids):
            return np.ascontiguousarray(features, dtype=np.float32)
        return features[[place[id] for id in ids]].astype(np.float32)


def _refuse_nan(path: Path, features: Features, ids: Sequence[str]) -> None:
    for first in range(0, len(ids), READ_AT_ONCE):
        fine = np.isfinite(features[first : first + READ_AT_ONCE]).all(axis=1)
        if not fine.all():
            bad = ids[first + int(np.argmin(fine))]
            raise PoolError(f"{path}: a feature of {bad!r} is not a finite number in float32")
