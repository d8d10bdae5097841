"""Parquet shards as Hugging Face and others write them: ids, labels and class names, with the images still encoded."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from jaxtyping import Int

from mcdal.errors import PoolError
from mcdal.pool.encoded import EncodedRows
from mcdal.values import Ids


@dataclass(frozen=True)
class Columns:
    """Names of the columns. `image` are tried in turn; `id` None makes ids from the file's name and the row."""

    image: tuple[str, ...]
    label: str
    id: str | None = None


@dataclass(frozen=True, eq=False)
class Shards:
    """Some Parquet files read as one table. `labels` are class indices, or text where the table has text."""

    files: tuple[Path, ...]
    image: str
    ids: Ids
    labels: tuple[Any, ...]
    names: tuple[str, ...] | None

    def rows(
        self, positions: Int[np.ndarray, " n"], targets: Int[np.ndarray, " all"], ids: Ids | None = None
    ) -> EncodedRows:
        """Some of the rows, in the order of the table. `targets` and `ids` are of all rows."""
        wanted = np.zeros(len(self.labels), dtype=bool)
        wanted[positions] = True
        every = ids or self.ids
        return EncodedRows(tuple(every[i] for i in positions), targets[positions], self.files, self.image, wanted)

    def stamps(self) -> tuple[object, ...]:
        return tuple((str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files)

    def sizes(self) -> tuple[int, ...]:
        return tuple(file.stat().st_size for file in self.files)


def read_shards(files: list[Path], columns: Columns) -> Shards:
    """The table without its images. PoolError names a file that is no Parquet, or a column that is not there."""
    schemas = [_schema(file) for file in files]
    image = _image_column(files[0], schemas[0], columns.image)
    wanted = [columns.label, *([columns.id] if columns.id else [])]
    labels: list[Any] = []
    ids: list[str] = []
    for file, schema in zip(files, schemas, strict=True):
        for column in (image, *wanted):
            if column not in schema.names:
                raise PoolError(f"{file} has no column {column!r}; its columns are {', '.join(schema.names)}")
        table = pyarrow.parquet.read_table(file, columns=wanted)
        labels += table.column(columns.label).to_pylist()
        ids += _ids(file, table, columns.id)
    for id, label in zip(ids, labels, strict=True):
        if label is None:
            raise PoolError(f"{id} has no label in the column {columns.label!r}")
    return Shards(tuple(files), image, tuple(ids), tuple(labels), class_names(schemas[0], columns.label))


def _ids(file: Path, table: Any, column: str | None) -> list[str]:
    if column is None:
        return [f"{file.stem}:{row}" for row in range(table.num_rows)]
    values = table.column(column).to_pylist()
    if None in values:
        raise PoolError(f"{file} has no id in row {values.index(None)} of the column {column!r}")
    return [str(value) for value in values]


def _schema(file: Path) -> pyarrow.Schema:
    try:
        return pyarrow.parquet.read_schema(file)
    except FileNotFoundError:
        raise PoolError(f"the file {file} does not exist") from None
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise PoolError(f"{file} is not a readable Parquet file: {error}") from error


def _image_column(file: Path, schema: pyarrow.Schema, names: tuple[str, ...]) -> str:
    for name in names:
        if name in schema.names:
            kind = schema.field(name).type
            if pyarrow.types.is_struct(kind) and "bytes" in {kind.field(i).name for i in range(kind.num_fields)}:
                return name
            if pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind):
                return name
            raise PoolError(f"{file}: the column {name!r} is {kind}; encoded images are binary or a struct with bytes")
    raise PoolError(f"{file} has no column {' or '.join(map(repr, names))}; its columns are {', '.join(schema.names)}")


def class_names(schema: pyarrow.Schema, label: str) -> tuple[str, ...] | None:
    """Class names that Hugging Face keeps in the schema's metadata; None where there are none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return None


def has_classes(file: Path, label: str, count: int) -> bool:
    """Whether a shard has this label column and, as far as its metadata tell, this many classes."""
    schema = _schema(file)
    names = class_names(schema, label)
    return label in schema.names and (names is None or len(names) == count)


def class_indices(labels: tuple[Any, ...], names: tuple[str, ...]) -> Int[np.ndarray, " n"]:
    """Class index of each label, which may be the index itself or a class's name."""
    if not all(isinstance(label, int) for label in labels):
        index = {name: i for i, name in enumerate(names)}
        return np.array([index.get(str(label), -1) for label in labels], dtype=np.int64)
    return np.array(labels, dtype=np.int64)
