"""Lance tables: a fragment is a shard, and single rows are cheap. Never in a forked process: Lance's own threads die there."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from mcdal.errors import PoolError
from mcdal.events import Listener
from mcdal.pool.assemble import digest
from mcdal.pool.streaming.format import Bytes, Entries, Format, Found, Part, check_labels
from mcdal.pool.streaming.parquet import check_columns, encoded
from mcdal.pool.streaming.storage import RELIST, Storage

ROWS = 32
_first_process: list[int] = []


@dataclass(frozen=True)
class LanceShards(Format):
    """image: binary, or a struct with `bytes`. label: read where it is there, unless None. id: None makes FRAGMENT:ROW."""

    image: str = "image"
    label: str | None = "label"
    id: str | None = None

    place: ClassVar[tuple[str, str]] = ("row", "nothing")

    def find(self, storage: Storage, listings: Storage, again: bool, listen: Listener) -> list[Found]:
        with storage.reading():
            _kept.cache_clear()
            table = open_table(storage)
            check_columns(storage.url(), table.schema, self.image, self.id)
            wanted = self._fields(table)
            return [_found(fragment, wanted) for fragment in table.get_fragments()]

    def scan(self, storage: Storage, found: Found, listings: Storage) -> Entries:
        with storage.reading():
            fragment = _fragment(storage, found.name)
            names = fragment.schema.names
            label = self.label if self.label in names else None
            columns = [name for name in (label, self.id) if name is not None]
            table = fragment.scanner(columns=columns, with_row_address=True).to_table()
        ids = self._ids(found.name, table)
        labels = None if label is None else check_labels(found.name, ids, table.column(label).combine_chunks(), label)
        places = np.zeros((len(ids), 2), dtype=np.int64)
        places[:, 0] = np.arange(len(ids))
        return Entries(ids, labels, places)

    def stream(self, storage: Storage, part: Part) -> Iterator[Bytes]:
        rows = part.places[:, 0]
        if not len(rows):
            return
        with storage.reading():
            first = int(rows[0])
            scanner = _fragment(storage, part.shard).scanner(
                columns=[self.image], offset=first, limit=int(rows[-1]) + 1 - first, batch_size=ROWS, batch_readahead=2
            )
            for batch in scanner.to_batches():
                inside = rows[(rows >= first) & (rows < first + batch.num_rows)] - first
                first += batch.num_rows
                yield from encoded(batch.column(0).take(_indices(inside)))

    def fetch(self, storage: Storage, part: Part) -> list[Bytes]:
        rows, back = np.unique(part.places[:, 0], return_inverse=True)
        if not len(rows):
            return []
        with storage.reading():
            column = _fragment(storage, part.shard).take(rows.tolist(), columns=[self.image]).column(0).combine_chunks()
        images = encoded(column)
        return [images[i] for i in back.tolist()]

    def stamp(self, storage: Storage, shard: str) -> str | None:
        with storage.reading():
            _kept.cache_clear()
            return self._stamp(open_table(storage), shard)

    def stamp_after(self, storage: Storage, shard: str) -> str | None:
        """Of the table that it was read from: it stays as it was when it was opened, but a look at a stamp opens it anew."""
        with storage.reading():
            return self._stamp(_kept(storage, os.getpid()), shard)

    def rows(self, stamp: str) -> str:
        """Of deleted rows nothing: the others keep their addresses."""
        return stamp.partition("-")[0]

    def _stamp(self, table: Any, shard: str) -> str:
        fragment = table.get_fragment(int(shard.rpartition("-")[2]))
        return "gone" if fragment is None else _found(fragment, self._fields(table)).stamp

    def _fields(self, table: Any) -> frozenset[int]:
        """Numbers of the fields that are read: files of other columns may come without changing a shard."""
        return frozenset(
            number
            for field in table.lance_schema.fields()
            if field.name() in (self.image, self.label, self.id)
            for number in (field.id(), *(child.id() for child in field.children()))
        )

    def _ids(self, shard: str, table: Any) -> tuple[str, ...]:
        if self.id is None:
            addresses = table.column("_rowaddr").to_numpy()
            return tuple(f"{shard}:{address & 0xFFFFFFFF}" for address in addresses.tolist())
        values = table.column(self.id)
        if values.null_count:
            row = values.is_null().to_pylist().index(True)
            raise PoolError(f"{shard} has no id in row {row} of the column {self.id!r}")
        return tuple(map(str, values.to_pylist()))


def open_table(storage: Storage) -> Any:
    """The table as it is now. PoolError without the extra, in a forked process, and where there is no table."""
    try:
        import lance
    except ImportError as error:
        raise PoolError(f"{storage.root} is a Lance table: pip install 'mcdal[lance]'") from error
    if not _first_process:
        _first_process.append(os.getpid())
    if os.getpid() != _first_process[0]:
        raise PoolError(
            f"{storage.root}: Lance cannot be read in a forked process: start workers with the method spawn"
        )
    try:
        return lance.dataset(storage.root)
    except ValueError as error:
        raise PoolError(f"{storage.root} is no readable Lance table: {str(error).splitlines()[0]}") from error


@lru_cache(maxsize=8)
def _kept(storage: Storage, process: int) -> Any:
    return open_table(storage)


def _fragment(storage: Storage, shard: str) -> Any:
    """Of the table as it was when a stamp was last looked at."""
    fragment = _kept(storage, os.getpid()).get_fragment(int(shard.rpartition("-")[2]))
    if fragment is None:
        raise PoolError(f"{storage.root} has no {shard} any more: the table was rewritten: {RELIST}")
    return fragment


def _found(fragment: Any, wanted: frozenset[int]) -> Found:
    files = [file for file in fragment.data_files() if wanted & set(file.fields)]
    gone = fragment.deletion_file()
    size = sum(file.file_size_bytes or 0 for file in files)
    stamp = digest([file.path for file in files], None)[:16]
    return Found(f"fragment-{fragment.fragment_id}", size, stamp if gone is None else f"{stamp}-{digest(gone)[:8]}")


def _indices(rows: np.ndarray) -> Any:
    import pyarrow

    return pyarrow.array(rows, pyarrow.int64())
