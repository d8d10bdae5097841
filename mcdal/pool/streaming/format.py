"""How samples lie in shards of one kind. A kind is one file: it finds shards, lists what they hold, and reads it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from jaxtyping import Int

from mcdal.errors import PoolError
from mcdal.events import Listener
from mcdal.pool.streaming.storage import Storage

Bytes: TypeAlias = bytes | None
"""An encoded image; None where a table has no value."""
Places: TypeAlias = Int[np.ndarray, "_ 2"]
"""Where each sample lies in its shard: two numbers, which mean what `Format.place` says."""


@dataclass(frozen=True)
class Found:
    """A shard as its store tells of it. parts: of which listings it is made, where it is no file of its own."""

    name: str
    size: int
    stamp: str
    parts: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True, eq=False)
class Entries:
    """What a shard holds, without its images.

    labels: a pyarrow array of class indices or names; None where the shard has none. classes: names that the shard itself
    knows for its indices.
    """

    ids: tuple[str, ...]
    labels: Any
    places: Places
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """Some samples of one shard, in the order of its rows where they are streamed."""

    shard: str
    stamp: str
    ids: Sequence[str]
    places: Places

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Format(ABC):
    """A kind of shards. Its fields say which columns, members or files are read."""

    place: ClassVar[tuple[str, str]]
    """Names of the two numbers that say where a sample lies."""
    dear: ClassVar[bool] = False
    """Whether one sample costs the reading of many, so that what was read is worth keeping even on the same disk."""

    @abstractmethod
    def find(self, storage: Storage, listings: Storage, again: bool, listen: Listener) -> list[Found]:
        """All shards, in the order of their names. listings: where a long search keeps what it has found.

        again: nothing is taken from there, as what it was found in may have changed unnoticed.
        """

    @abstractmethod
    def scan(self, storage: Storage, found: Found, listings: Storage) -> Entries:
        """What a shard holds. PoolError names what cannot be read."""

    @abstractmethod
    def stream(self, storage: Storage, part: Part) -> Iterator[Bytes]:
        """Encoded images in the order of the shard, read once from front to back."""

    @abstractmethod
    def fetch(self, storage: Storage, part: Part) -> list[Bytes]:
        """Encoded images in any order."""

    def stamp(self, storage: Storage, shard: str) -> str | None:
        """The stamp of one shard today; None where only a search of all tells."""
        return storage.now(shard).stamp

    def stamp_after(self, storage: Storage, shard: str) -> str | None:
        """The stamp of a shard that has just been read; None where nothing can have come in between."""
        return self.stamp(storage, shard)

    def rows(self, stamp: str) -> str:
        """The part of a stamp that changes when an image may lie in another row than before."""
        return stamp

    def neighbours(self, storage: Storage, part: Part, all_places: Places) -> Int[np.ndarray, " m"]:
        """Rows of the shard that come without further reading where those of `part` are read."""
        return np.empty(0, dtype=np.int64)


def check_labels(shard: str, ids: Sequence[str], labels: Any, column: str) -> Any:
    """Labels as int64 or text. PoolError for another type, and for a sample that has none; each is named."""
    import pyarrow

    if pyarrow.types.is_dictionary(labels.type):
        labels = labels.cast(labels.type.value_type)
    if labels.null_count:
        missing = labels.is_null().to_pylist().index(True)
        raise PoolError(f"{ids[missing]} has no label in {column!r}")
    if pyarrow.types.is_integer(labels.type):
        return labels.cast(pyarrow.int64())
    if pyarrow.types.is_string(labels.type) or pyarrow.types.is_large_string(labels.type):
        return labels.cast(pyarrow.string())
    raise PoolError(f"{shard}: {column!r} is {labels.type}; labels are class indices or class names")
