"""Arrays from files, with or without ids: .npy, .npz, .pt and .parquet. Nothing that is read is executed."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from jaxtyping import Shaped

from mcdal.errors import PoolError

AT_ONCE = 65_536
"""Rows of a .parquet that are read together."""


@dataclass(frozen=True)
class Table:
    """Rows of a file. values: memory-mapped where they come from a .npy or .pt. ids: None in a file without."""

    path: Path
    values: Shaped[np.ndarray, "n ..."]
    ids: tuple[str, ...] | None = None


def read_table(path: Path, name: str) -> Table:
    """The array of that name, such as features, and the ids of its rows if they are there.

    .npy: one array. .npz: the array `name`, or the only one beside `ids`. .pt: a tensor, or a dictionary as a .npz.
    .parquet: the column `name`, of numbers or of lists of equal length; or the only column of lists; or the columns of numbers
    side by side; ids are in the column `id`. PoolError names the file and what is wrong with it.
    """
    path = Path(path).expanduser()
    kind = path.suffix.lower()
    if kind not in _READERS:
        raise PoolError(f"{name} = {path}: give a file that ends in {', '.join(_READERS)}")
    if not path.is_file():
        raise PoolError(f"{name} = {path}: there is no such file")
    try:
        values, ids = _READERS[kind](path, name)
    except PoolError:
        raise
    except Exception as error:  # whatever numpy, torch, arrow and pickle say of what is no file of theirs
        raise PoolError(f"{path}: no {name} can be read from it ({type(error).__name__}: {error})") from error
    if values.ndim == 0 or values.dtype.kind not in "biufUS":
        raise PoolError(f"{path}: {name} are {values.dtype} of shape {values.shape}; give a row of numbers a sample")
    if ids is not None and len(ids) != len(values):
        raise PoolError(f"{path}: {name} are {values.dtype} of shape {values.shape} for {len(ids)} ids")
    return Table(path, values, ids)


def texts(path: Path, ids: Shaped[np.ndarray, "..."]) -> tuple[str, ...]:
    """Ids as they are known everywhere: texts. Whole numbers are written out."""
    if ids.ndim != 1 or ids.dtype.kind not in "UiuS":
        raise PoolError(f"{path}: ids are {ids.dtype} of shape {ids.shape}; give one text or whole number a sample")
    try:
        names = np.char.decode(ids, "utf-8") if ids.dtype.kind == "S" else ids.astype(np.str_)
    except UnicodeDecodeError as error:
        raise PoolError(f"{path}: ids are bytes that are no UTF-8 text ({error})") from error
    return tuple(names.tolist())


def places(path: Path, ids: Sequence[str]) -> dict[str, int]:
    """The row of each id; PoolError where one is there twice."""
    place: dict[str, int] = {}
    for i, id in enumerate(ids):
        if place.setdefault(id, i) != i:
            raise PoolError(f"{path}: the id {id!r} is there twice")
    return place


Read = tuple[np.ndarray, tuple[str, ...] | None]


def _npy(path: Path, name: str) -> Read:
    return np.load(path, mmap_mode="r", allow_pickle=False), None


def _npz(path: Path, name: str) -> Read:
    with np.load(path, allow_pickle=False) as file:
        return _named(path, name, {key: _Lazy(file, key) for key in file.files})


@dataclass(frozen=True)
class _Lazy:
    """An array of a .npz that is not read before it is asked for."""

    file: Any
    key: str

    def __call__(self) -> np.ndarray:
        array: np.ndarray = self.file[self.key]
        return array


def _pt(path: Path, name: str) -> Read:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickles in older formats; weights_only refuses those that would execute
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            loaded = torch.load(path, map_location="cpu", weights_only=True)  # torch's older format cannot be mapped
    found = loaded if isinstance(loaded, Mapping) else {name: loaded}
    return _named(path, name, {str(key): _as_array(path, key, value) for key, value in found.items()})


def _as_array(path: Path, key: object, value: object) -> Callable[[], np.ndarray]:
    def convert() -> np.ndarray:
        if isinstance(value, (list, tuple)):
            return np.array(value)
        if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
            raise PoolError(f"{path}: {key!r} is {type(value).__name__}; give a dense tensor")
        dense = value.detach()
        array: np.ndarray = (dense.float() if dense.dtype is torch.bfloat16 else dense).numpy()
        return array

    return convert


def _named(path: Path, name: str, arrays: Mapping[str, Callable[[], np.ndarray]]) -> Read:
    """The array that is meant, and the ids."""
    others = [key for key in arrays if key not in ("ids", "made")]
    wanted = name if name in arrays else others[0] if len(others) == 1 else None
    if wanted is None:
        raise PoolError(f"{path} has no array {name!r}; it has {', '.join(arrays) or 'none'}")
    ids = texts(path, arrays["ids"]()) if "ids" in arrays and wanted != "ids" else None
    return arrays[wanted](), ids


def _parquet(path: Path, name: str) -> Read:
    file = pq.ParquetFile(path, memory_map=True)
    schema = file.schema_arrow
    columns = _columns(path, name, schema)
    ids: list[str] = []
    values: np.ndarray | None = None
    done = 0
    for batch in file.iter_batches(AT_ONCE, columns=columns + (["id"] if "id" in schema.names else [])):
        if "id" in schema.names and name != "ids":
            ids += _ids(path, batch["id"], done)
        part = _numbers(path, name, batch, columns, done)
        if values is None:
            values = np.empty((file.metadata.num_rows, *part.shape[1:]), part.dtype)
        if part.shape[1:] != values.shape[1:]:
            who = repr(ids[done]) if ids else f"row {done}"
            raise PoolError(f"{path}: {who} has {part.shape[1]} features and others have {values.shape[1]}")
        values[done : done + len(part)] = part
        done += len(part)
    if values is None:
        raise PoolError(f"{path} has no rows")
    return values, tuple(ids) if ids else None


def _columns(path: Path, name: str, schema: pa.Schema) -> list[str]:
    if name in schema.names:
        return [name]
    lists = [f.name for f in schema if _is_list(f.type)]
    named = [f for f in schema if f.name != "id" and not f.name.startswith("__index_level_")]
    numbers = [f.name for f in named if pa.types.is_floating(f.type)]
    whole = [f.name for f in named if pa.types.is_integer(f.type)]
    if not lists and numbers and whole:
        raise PoolError(
            f"{path}: {', '.join(whole)} are whole numbers beside fractions: are they {name}? Write all of those as fractions, "
            "and leave out what is none"
        )
    numbers = numbers or whole
    if len(lists) == 1:
        return lists
    if lists or not numbers:
        if name == "ids" and "id" in schema.names:
            return ["id"]
        raise PoolError(
            f"{path}: give a column {name}, one column of lists or some of numbers; it has {', '.join(schema.names)}"
        )
    return numbers


def _is_list(kind: pa.DataType) -> bool:
    return any(is_one(kind) for is_one in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _ids(path: Path, column: pa.Array, done: int) -> list[str]:
    if column.null_count:
        first = done + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise PoolError(f"{path}: {column.null_count} rows have no id, the first is row {first}")
    names: list[str] = column.cast(pa.string()).to_pylist()
    return names


def _numbers(path: Path, name: str, batch: pa.RecordBatch, columns: list[str], done: int) -> np.ndarray:
    """A batch's rows. A missing number is NaN."""
    column = batch[columns[0]]
    if not _is_list(column.type):
        return (
            _flat(column, done)
            if columns in ([name], ["id"])
            else np.stack([_flat(batch[c], done) for c in columns], axis=1)
        )
    sizes = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    most = int(sizes.max(initial=0))
    odd = np.flatnonzero(sizes != most)
    if len(odd):
        names = batch["id"].to_pylist() if "id" in batch.schema.names else range(done, done + len(batch))
        raise PoolError(f"{path}: {names[odd[0]]!r} has {sizes[odd[0]]} features and others have {most}")
    return _flat(pc.list_flatten(column), done).reshape(len(sizes), most)


def _flat(column: pa.Array, done: int) -> np.ndarray:
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64() if column.type == pa.float64() else pa.float32())
    elif column.null_count:
        first = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise pa.ArrowInvalid(f"the value of row {done + first} is missing; a label that there is not is -1")
    flat: np.ndarray = column.to_numpy(zero_copy_only=False)
    return flat.astype(np.str_) if flat.dtype.kind == "O" else flat


_READERS: Mapping[str, Callable[[Path, str], Read]] = {".npy": _npy, ".npz": _npz, ".pt": _pt, ".parquet": _parquet}
