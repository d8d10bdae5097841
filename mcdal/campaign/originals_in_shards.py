"""Images of a campaign that lie in shards, by the index that the trainer keeps."""

import io
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from mcdal.campaign.originals_base import File, Originals
from mcdal.campaign.shards import CampaignShards
from mcdal.errors import McdalError, MissingError, PoolError
from mcdal.hashes import hashed
from mcdal.pool.encoded import in_threads
from mcdal.pool.streaming.format import Bytes
from mcdal.pool.streaming.index import Indexed
from mcdal.pool.streaming.storage import ASKED_AT_ONCE, Storage
from mcdal.pool.streaming.stored import Stored

AT_ONCE = 64
"""Images of shards that are read at once where many are wanted."""
SECONDS_TRUSTED = 60.0
"""So long a shard is taken for what it was when it was last looked at; what is read is compared in any case."""


class Current:
    """The index as it is now: it is looked up again when it has changed. lists: whether it is made where there is none."""

    def __init__(self, source: CampaignShards, cache: Path, lists: bool):
        self.source, self._cache, self._lists = source, cache, lists
        self._manifest = source.manifest(cache)
        self._lock = threading.Lock()
        self._stored: Stored | None = None
        self._state = 0

    @property
    def stored(self) -> Stored:
        """While one thread looks up a new index, the others go on with the old one.

        So do all where the new one cannot be read: whoever trains says what is wrong.
        """
        state = self._manifest.stat().st_mtime_ns if self._manifest.exists() else 0
        stored = self._stored
        if stored is not None and (state == self._state or not self._lock.acquire(blocking=False)):
            return stored
        if stored is None:
            self._lock.acquire()
        try:
            if self._stored is None or state != self._state:
                self._stored, self._state = self._looked_up(), state
            return self._stored
        finally:
            self._lock.release()

    def _looked_up(self) -> Stored:
        try:
            return self.source.stored(self._cache, self._lists)
        except McdalError:
            if self._stored is None:
                raise
            return self._stored


class Listed(Originals):
    """What the index alone tells."""

    def __init__(self, current: Current):
        self._current = current

    def count(self) -> int:
        return len(self._current.stored)

    def known(self, ids: Collection[str]) -> set[str]:
        return self._current.stored.known(list(ids))

    def audit(self) -> set[str]:
        return set(self._current.stored.joined.test.ids)

    def in_audit(self, ids: Sequence[str]) -> set[str]:
        source = self._current.source
        return {id for id, of in zip(ids, source.split.test("", hashed(ids)).tolist(), strict=True) if of}

    def where(self) -> str:
        return str(self._current.source.data)


class ShardOriginals(Listed):
    """Images in Parquet, tars or Lance."""

    def __init__(self, current: Current):
        super().__init__(current)
        self._trusted: dict[tuple[str, str], float] = {}

    def is_there(self, id: str) -> bool:
        """By the index alone: shards are not read for it."""
        return bool(self.known([id]))

    def can_be_read(self, id: str) -> bool:
        """Not where its shard has changed."""
        now = self._current.stored
        return bool(now.known([id])) and self._changed(now, now.shard_of(id)) is None

    def version(self, id: str) -> str:
        return self._current.stored.version(id)

    def open(self, id: str) -> File:
        (image,) = self._read([id])
        if not image:
            raise PoolError(f"the image {id!r} is empty: {self._current.stored.shard_of(id).name} has no bytes of it")
        return io.BytesIO(image)

    @property
    def may_be_away(self) -> bool:
        """The index changes when somebody says that a shard has gone."""
        return False

    def each(self, ids: Iterable[str]) -> Iterator[bytes | None]:
        """None as well of one that has no bytes."""
        ids = list(ids)
        for first in range(0, len(ids), AT_ONCE):
            some = ids[first : first + AT_ONCE]
            there = self.known(some)
            here = [id for id in some if id in there]
            found = dict(zip(here, self._read(here) if here else [], strict=True))
            yield from (found.get(id) or None for id in some)

    def _read(self, ids: Sequence[str]) -> list[Bytes]:
        now = self._current.stored
        for shard in {now.shard_of(id) for id in ids}:
            if (changed := self._changed(now, shard)) is not None:
                raise PoolError(changed)
        return now.read(ids)

    def _changed(self, now: Stored, shard: Indexed) -> str | None:
        """In words, where it has, or has gone: what lies in the place of an image may be another one then.

        PoolError where that cannot be told, as the store does not answer.
        """
        looked = self._trusted.get((shard.name, shard.stamp))
        if looked is not None and time.monotonic() - looked < SECONDS_TRUSTED:
            return None
        storage = now.place.storage
        try:
            found = now.place.format.stamp(storage, shard.name)
        except MissingError:
            found = "gone"
        if found is not None and found != shard.stamp:
            return (
                f"the shard {storage.url(shard.name)} has {'gone' if found == 'gone' else 'changed'} since it was listed: put it "
                "back as it was, or take what there is with `mcdal campaign relist`"
            )
        self._trusted[shard.name, shard.stamp] = time.monotonic()
        return None


class FileOriginals(Listed):
    """Image files that are not copied, as the folders hold them now: ids are their paths. New ones are known once listed."""

    def __init__(self, current: Current):
        super().__init__(current)
        self._storage = Storage.of(str(current.source.data))

    def is_there(self, id: str) -> bool:
        """Of a store by the index alone, as thousands are asked for."""
        return self.can_be_read(id) if self._storage.local is not None else bool(self.known([id]))

    def can_be_read(self, id: str) -> bool:
        try:
            self.version(id)
        except MissingError:
            return False
        return True

    def version(self, id: str) -> str:
        self._check(id)
        return self._storage.now(id).stamp

    def open(self, id: str) -> File:
        self._check(id)
        return io.BytesIO(self._storage.read(id))

    def each(self, ids: Iterable[str]) -> Iterator[bytes | None]:
        return in_threads(self._bytes, ids, 1 if self._storage.local is not None else ASKED_AT_ONCE)

    def _bytes(self, id: str) -> bytes | None:
        try:
            self._check(id)
            return self._storage.read(id) or None
        except MissingError:
            return None

    def _check(self, id: str) -> None:
        if not self.known([id]):
            raise MissingError(f"the image {id!r} is not in {self.where()} any more")
