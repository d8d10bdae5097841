"""Where a pool in shards lies, and its images as they lie there: what a person is shown, and what is handed on."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

from mcdal.errors import PoolError
from mcdal.pool.assemble import digest
from mcdal.pool.streaming.format import Bytes, Format
from mcdal.pool.streaming.index import VERSION, Index, Indexed
from mcdal.pool.streaming.joined import Joined
from mcdal.pool.streaming.split import Split
from mcdal.pool.streaming.storage import Storage
from mcdal.pool.streaming.whole import Encoded, Room


@dataclass(frozen=True)
class Place:
    """Where shards lie, how they are read, and where they are listed."""

    storage: Storage
    format: Format
    index: Index

    @property
    def key(self) -> str:
        """A digest of where it lies and how it is read, whichever shards there are."""
        fields = type(self.format).__name__, list(vars(self.format).items())
        return digest(VERSION, self.storage.root, self.storage.names, fields)[:16]

    def content(self, shards: Sequence[Indexed], split: Split, classes: Sequence[str]) -> str:
        """A digest of what is there and how it is read."""
        fields = type(self.format).__name__, list(vars(self.format).items())
        return digest(VERSION, fields, tuple(classes), [(s.name, s.content) for s in shards], vars(split))

    def stamps(self, content: str, shards: Sequence[Indexed]) -> str:
        """A digest of that and of where it lies, by which is kept what was read."""
        return digest(content, self.storage.root, self.storage.names, [s.stamp for s in shards])[:16]


@dataclass(frozen=True, eq=False)
class Stored:
    """Encoded images by id, those of the pool and of the test. Nothing is decoded, and none is compared with its checksum.

    make_room: gives where single images are kept, if anywhere.
    """

    place: Place
    shards: tuple[Indexed, ...]
    joined: Joined
    make_room: Callable[[], Room | None]

    def __len__(self) -> int:
        return len(self.joined.pool.ids) + len(self.joined.test.ids)

    def known(self, ids: Sequence[str]) -> set[str]:
        """Those of these ids that there are."""
        pool, test = self._positions(ids)
        return {id for id, found in zip(ids, ((pool >= 0) | (test >= 0)).tolist(), strict=True) if found}

    def read(self, ids: Sequence[str]) -> list[Bytes]:
        """As the index says that they lie. PoolError names an id that there is not."""
        found: dict[str, Bytes] = {}
        for part, positions in zip(self._parts, self._positions(ids), strict=True):
            here = np.flatnonzero(positions >= 0)
            some = [ids[i] for i in here.tolist()]
            found |= zip(some, part.read(positions[here]), strict=True)
        if (none := next((id for id in ids if id not in found), None)) is not None:
            raise self._gone(none)
        return [found[id] for id in ids]

    def shards_of(self, ids: Sequence[str]) -> list[Indexed]:
        """The shards that hold any of these."""
        numbers = {
            number
            for part, positions in zip(self._parts, self._positions(ids), strict=True)
            for number, _ in part.by_shard(positions[positions >= 0])
        }
        return [self.shards[number] for number in sorted(numbers)]

    def shard_of(self, id: str) -> Indexed:
        return self.shards[self._where(id)[1]]

    def version(self, id: str) -> str:
        """Changes with the shard, or with the place in it."""
        part, number, position = self._where(id)
        told = self.shards[number].stamp, part.part.places[position].tolist()
        return hashlib.blake2b(repr(told).encode(), digest_size=8).hexdigest()

    def _where(self, id: str) -> tuple[Encoded, int, int]:
        """Part, number of the shard, and position in the part."""
        for part, positions in zip(self._parts, self._positions([id]), strict=True):
            if positions[0] >= 0:
                ((number, _),) = part.by_shard(positions)
                return part, number, int(positions[0])
        raise self._gone(id)

    @cached_property
    def _parts(self) -> tuple[Encoded, Encoded]:
        room = self.make_room()
        pool, test = (
            Encoded(self.place.storage, self.place.format, part, self.shards, room)
            for part in (self.joined.pool, self.joined.test)
        )
        return pool, test

    def _positions(self, ids: Sequence[str]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        return self.joined.pool.ids.positions(ids), self.joined.test.ids.positions(ids)

    def _gone(self, id: str) -> PoolError:
        return PoolError(f"the image {id!r} is not in the shards of {self.place.storage.root} any more")
