"""The images of a campaign as they lie, by id, audit and all: what people are shown, and what is handed on with labels."""

import io
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from mcdal.campaign.definition import Opened
from mcdal.campaign.draws import is_audit
from mcdal.campaign.images import list_images
from mcdal.campaign.shards import CampaignShards, shards_of
from mcdal.errors import PoolError
from mcdal.hashes import hashed
from mcdal.pool.streaming.index import Indexed
from mcdal.pool.streaming.stored import Stored

File: TypeAlias = io.BufferedReader | io.BytesIO

AT_ONCE = 64
"""Images of shards that are read at once where many are wanted."""
SECONDS_TRUSTED = 60.0
"""So long a shard is taken for what it was when it was last looked at."""


class Originals(ABC):
    """An id that is not there is a PoolError which names it."""

    @abstractmethod
    def count(self) -> int:
        """How many there are now."""

    @abstractmethod
    def known(self, ids: Collection[str]) -> set[str]:
        """Those of these ids that there are now."""

    @abstractmethod
    def audit(self) -> set[str]:
        """Those that there are now and are of the audit."""

    @abstractmethod
    def in_audit(self, ids: Sequence[str]) -> set[str]:
        """Those of these ids that are of the audit, whether they are there or not."""

    @abstractmethod
    def is_there(self, id: str) -> bool:
        """Whether it is one of the campaign's images now."""

    def can_be_read(self, id: str) -> bool:
        """Whether it can be shown now. PoolError where nothing can, as a store does not answer."""
        return self.is_there(id)

    @abstractmethod
    def version(self, id: str) -> str:
        """Changes with the image, so that nobody is shown an older one under the same address."""

    @abstractmethod
    def open(self, id: str) -> File:
        """The bytes of its file."""

    @abstractmethod
    def where(self) -> str:
        """Where they lie, for people."""

    @property
    def may_be_away(self) -> bool:
        """Whether many that are not there may be back in a minute, as a disk is away."""
        return True

    def each(self, ids: Iterable[str]) -> Iterator[bytes | None]:
        """The bytes of each; None of one that is not there any more."""
        for id in ids:
            if not self.is_there(id):
                yield None
                continue
            with self.open(id) as file:
                yield file.read()


class FolderOriginals(Originals):
    """Image files of a folder. store: of the campaign, which is not looked into."""

    def __init__(self, root: Path, store: Path, seed: int, below: float):
        self._root, self._store, self._seed, self._below = root.resolve(), store, seed, below

    def count(self) -> int:
        return len(self._ids())

    def known(self, ids: Collection[str]) -> set[str]:
        return set(self._ids()).intersection(ids)

    def audit(self) -> set[str]:
        return self.in_audit(self._ids())

    def in_audit(self, ids: Sequence[str]) -> set[str]:
        return {id for id in ids if is_audit(self._seed, id, self._below)}

    def _path(self, id: str) -> Path:
        try:
            path = (self._root / id).resolve()
            inside = path.is_relative_to(self._root) and path.is_file()
        except (OSError, ValueError):  # the second: a null byte
            inside = False
        if not inside:
            raise PoolError(f"the image {id!r} is not in the folder any more")
        return path

    def is_there(self, id: str) -> bool:
        try:
            self._path(id)
        except PoolError:
            return False
        return True

    def version(self, id: str) -> str:
        state = self._path(id).stat()
        return f"{state.st_size:x}-{state.st_mtime_ns:x}"

    def open(self, id: str) -> File:
        return self._path(id).open("rb")

    def where(self) -> str:
        return str(self._root)

    def _ids(self) -> list[str]:
        return [file.id for file in list_images(self._root, self._store)]


class ShardOriginals(Originals):
    """Images in shards, by the index that the trainer keeps: it is looked up again when that has changed."""

    def __init__(self, source: CampaignShards, cache: Path):
        self._source, self._cache = source, cache
        self._manifest = source.manifest(cache)
        self._lock = threading.Lock()
        self._stored: Stored | None = None
        self._state = 0
        self._trusted: dict[tuple[str, str], float] = {}

    def count(self) -> int:
        return len(self._now)

    def known(self, ids: Collection[str]) -> set[str]:
        return self._now.known(list(ids))

    def audit(self) -> set[str]:
        return set(self._now.joined.test.ids)

    def in_audit(self, ids: Sequence[str]) -> set[str]:
        return {id for id, of in zip(ids, self._source.split.test("", hashed(ids)).tolist(), strict=True) if of}

    def is_there(self, id: str) -> bool:
        """By the index alone: shards are not read for it."""
        return bool(self._now.known([id]))

    def can_be_read(self, id: str) -> bool:
        """Not where its shard has changed."""
        now = self._now
        return bool(now.known([id])) and self._changed(now, now.shard_of(id)) is None

    def version(self, id: str) -> str:
        return self._now.version(id)

    def open(self, id: str) -> File:
        (image,) = self._read([id])
        return io.BytesIO(image)

    def where(self) -> str:
        return str(self._source.data)

    @property
    def may_be_away(self) -> bool:
        """Not of shards: the index changes when somebody says that one has gone."""
        return self._source.kind == "files"

    def each(self, ids: Iterable[str]) -> Iterator[bytes | None]:
        ids = list(ids)
        for first in range(0, len(ids), AT_ONCE):
            some = ids[first : first + AT_ONCE]
            there = self._now.known(some)
            here = [id for id in some if id in there]
            found = dict(zip(here, self._read(here) if here else [], strict=True))
            yield from (found.get(id) for id in some)

    def _read(self, ids: Sequence[str]) -> list[bytes]:
        now = self._now
        for shard in {now.shard_of(id) for id in ids}:
            if (changed := self._changed(now, shard)) is not None:
                raise PoolError(changed)
        images = now.read(ids)
        if (empty := next((id for id, image in zip(ids, images, strict=True) if not image), None)) is not None:
            raise PoolError(f"the image {empty!r} is empty: {now.shard_of(empty).name} has no bytes of it")
        return [image for image in images if image]

    def _changed(self, now: Stored, shard: Indexed) -> str | None:
        """In words, where it has, or has gone: what lies in the place of an image may be another one then."""
        looked = self._trusted.get((shard.name, shard.stamp))
        if looked is not None and time.monotonic() - looked < SECONDS_TRUSTED:
            return None
        storage = now.place.storage
        try:
            found = now.place.format.stamp(storage, shard.name)
        except PoolError:
            if storage.exists(shard.name):
                raise
            found = "gone"
        if found is not None and found != shard.stamp:
            return (
                f"the shard {storage.url(shard.name)} has {'gone' if found == 'gone' else 'changed'} since it was listed: put it "
                "back as it was, or take what there is with `mcdal campaign relist`"
            )
        self._trusted[shard.name, shard.stamp] = time.monotonic()
        return None

    @property
    def _now(self) -> Stored:
        """While one thread looks up a new index, the others go on with the old one."""
        state = self._manifest.stat().st_mtime_ns if self._manifest.exists() else 0
        stored = self._stored
        if stored is not None and (state == self._state or not self._lock.acquire(blocking=False)):
            return stored
        if stored is None:
            self._lock.acquire()
        try:
            if self._stored is None or state != self._state:
                self._stored, self._state = self._source.stored(self._cache), state
            return self._stored
        finally:
            self._lock.release()


def originals_of(campaign: Opened) -> Originals:
    """Those of a campaign. A new object looks at everything anew."""
    definition = campaign.campaign
    if definition.kind is not None:
        return ShardOriginals(shards_of(definition, campaign.folder), campaign.folder / "cache")
    return FolderOriginals(Path(definition.images), campaign.folder, definition.seed, definition.audit_below)
