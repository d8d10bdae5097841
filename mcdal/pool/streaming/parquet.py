"""Parquet shards: an image column with bytes, maybe a label and an id column. A row group is what is read at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int

from mcdal.errors import PoolError
from mcdal.events import Listener
from mcdal.pool.shards import class_names
from mcdal.pool.streaming.format import Bytes, Entries, Format, Found, Part, Places, check_labels
from mcdal.pool.streaming.storage import RELIST, Storage

ROWS = 32
"""Rows that are turned into Python's bytes at once."""


@dataclass(frozen=True)
class ParquetShards(Format):
    """image: binary, or a struct with `bytes`. label: read where it is there, unless None. id: None makes FILE:ROW."""

    image: str = "image"
    label: str | None = "label"
    id: str | None = None

    place: ClassVar[tuple[str, str]] = ("row_group", "row")
    dear: ClassVar[bool] = True

    def find(self, storage: Storage, listings: Storage, again: bool, listen: Listener) -> list[Found]:
        return [Found(file.name, file.size, file.stamp) for file in storage.files(".parquet")]

    def scan(self, storage: Storage, found: Found, listings: Storage) -> Entries:
        with _opened(storage, found.name, found.stamp) as file:
            schema = file.schema_arrow
            check_columns(storage.url(found.name), schema, self.image, self.id)
            with_labels = self.label is not None and self.label in schema.names
            columns = [name for name in (self.label if with_labels else None, self.id) if name is not None]
            table = file.read(columns=columns) if columns else None
            counts = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
            names = class_names(schema, self.label) if with_labels and self.label is not None else None
        places = np.empty((sum(counts), 2), dtype=np.int64)
        places[:, 0] = np.repeat(np.arange(len(counts)), counts)
        places[:, 1] = np.concatenate([np.arange(0), *map(np.arange, counts)])
        ids = _ids(found.name, self.id, table, len(places))
        labels = None
        if with_labels and self.label is not None and table is not None:
            labels = check_labels(found.name, ids, table.column(self.label).combine_chunks(), self.label)
        return Entries(ids, labels, places, names or ())

    def stream(self, storage: Storage, part: Part) -> Iterator[Bytes]:
        with _opened(storage, part.shard, part.stamp) as file:
            for group, rows in _by_group(part.places):
                wanted, first = rows, 0
                for batch in file.iter_batches(ROWS, row_groups=[group], columns=[self.image]):
                    inside = wanted[: np.searchsorted(wanted, first + batch.num_rows)]
                    wanted, first = wanted[len(inside) :], first + batch.num_rows
                    if len(inside):
                        yield from encoded(batch.column(0).take(_indices(inside - (first - batch.num_rows))))

    def fetch(self, storage: Storage, part: Part) -> list[Bytes]:
        found: list[Bytes] = [None] * len(part)
        with _opened(storage, part.shard, part.stamp) as file:
            for group in np.unique(part.places[:, 0]).tolist():
                here = np.flatnonzero(part.places[:, 0] == group)
                column = file.read_row_group(group, columns=[self.image]).column(0).combine_chunks()
                for i, value in zip(here, encoded(column.take(_indices(part.places[here, 1]))), strict=True):
                    found[i] = value
        return found

    def neighbours(self, storage: Storage, part: Part, all_places: Places) -> Int[np.ndarray, " m"]:
        return np.flatnonzero(np.isin(all_places[:, 0], np.unique(part.places[:, 0])))


@contextmanager
def _opened(storage: Storage, shard: str, stamp: str) -> Iterator[Any]:
    """The file, its footer read once for each stamp. PoolError where it is no Parquet, or cut off."""
    import pyarrow
    import pyarrow.parquet

    with storage.reading(shard):
        try:
            with (
                storage.open(shard, ahead=False) as raw,
                pyarrow.parquet.ParquetFile(raw, metadata=_footer(storage, shard, stamp)) as file,
            ):
                yield file
        except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
            raise PoolError(f"{storage.url(shard)} is not a readable Parquet file: {error}") from error


@lru_cache(maxsize=512)
def _footer(storage: Storage, shard: str, stamp: str) -> Any:
    """Where row groups lie. Kept, because in a bucket it costs requests of its own."""
    import pyarrow.parquet

    with storage.open(shard, ahead=False) as raw:
        footer = pyarrow.parquet.read_metadata(raw)
    now = storage.now(shard).stamp
    if now != stamp:
        raise PoolError(f"{storage.url(shard)} has changed since it was listed ({stamp} then, {now} now): {RELIST}")
    return footer


def _by_group(places: Places) -> Iterator[tuple[int, Int[np.ndarray, " rows"]]]:
    """Each run of one row group, with the rows in it."""
    borders = np.flatnonzero(np.diff(places[:, 0])) + 1
    for run in np.split(np.arange(len(places)), borders):
        if len(run):
            yield int(places[run[0], 0]), places[run, 1]


def _indices(rows: Int[np.ndarray, " n"]) -> Any:
    import pyarrow

    return pyarrow.array(rows, pyarrow.int64())


def encoded(column: Any) -> list[Bytes]:
    """The bytes of a column of images."""
    return [value.get("bytes") if isinstance(value, dict) else value for value in column.to_pylist()]


def check_columns(url: str, schema: Any, image: str, id: str | None) -> None:
    """PoolError where a column is missing, or the images' is of another type."""
    import pyarrow

    for name in (image, id):
        if name is not None and name not in schema.names:
            raise PoolError(f"{url} has no column {name!r}; its columns are {', '.join(schema.names)}")
    kind = schema.field(image).type
    inside = {kind.field(i).name for i in range(kind.num_fields)} if pyarrow.types.is_struct(kind) else set()
    if not ("bytes" in inside or pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)):
        raise PoolError(f"{url}: the column {image!r} is {kind}; encoded images are binary or a struct with bytes")


def _ids(shard: str, column: str | None, table: Any, rows: int) -> tuple[str, ...]:
    if column is None:
        stem = shard[: -len(".parquet")]
        return tuple(f"{stem}:{row}" for row in range(rows))
    values = table.column(column)
    if values.null_count:
        row = values.is_null().to_pylist().index(True)
        raise PoolError(f"{shard} has no id in row {row} of the column {column!r}")
    return tuple(map(str, values.to_pylist()))
