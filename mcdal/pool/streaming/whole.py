"""All images of a pool in shards, read at random: for training, and for people."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from mcdal.pool.assemble import digest
from mcdal.pool.base import Images, Positions, Quarantined
from mcdal.pool.decode import BadImages
from mcdal.pool.encoded import in_threads
from mcdal.pool.streaming.aside import Aside
from mcdal.pool.streaming.format import Bytes, Format, Part
from mcdal.pool.streaming.images import Reader, decoded, send
from mcdal.pool.streaming.index import Indexed, record_of
from mcdal.pool.streaming.joined import JoinedPart
from mcdal.pool.streaming.kept import Kept
from mcdal.pool.streaming.storage import Storage
from mcdal.pool.streaming.unchanged import check_unchanged

CHECKED_AT_ONCE = 8
BATCHES_AT_ONCE = 2
"""Batches that are fetched at the same time."""


@dataclass(frozen=True, eq=False)
class Room:
    """Where encoded images are kept, and whether those that come unasked are kept too."""

    kept: Kept
    neighbours: bool


class Encoded:
    """Images of one part of a pool as they lie, not decoded: what is kept from there, the rest shard by shard from the store."""

    def __init__(
        self, storage: Storage, format: Format, part: JoinedPart, shards: tuple[Indexed, ...], room: Room | None
    ):
        self.part, self.shards = part, shards
        self._storage, self._format, self._room = storage, format, room

    def read(self, chosen: Positions) -> list[Bytes]:
        """In this order."""
        ids = [self.part.ids[i] for i in chosen.tolist()]
        found = self._kept(ids, chosen)
        missing = np.array([i for i, id in enumerate(ids) if id not in found], dtype=np.int64)
        fetched: dict[int, dict[str, Bytes]] = {}
        for shard, here in self.by_shard(chosen[missing]):
            rows = missing[here]
            fetched[shard] = self._fetched(shard, [ids[i] for i in rows.tolist()], chosen[rows])
        self._check(list(fetched))
        for shard, images in fetched.items():
            if self._room is not None:
                self._room.kept.put({f"{self._tags[shard]}{id}": image for id, image in images.items() if image})
            found |= images
        return [found[id] for id in ids]

    def _kept(self, ids: list[str], positions: Positions) -> dict[str, Bytes]:
        """Those that were read before, of shards that are as they were then."""
        if self._room is None:
            return {}
        tags = [self._tags[i] for i in (np.searchsorted(self.part.starts, positions, "right") - 1).tolist()]
        ids_of = {f"{tag}{id}": id for tag, id in zip(tags, ids, strict=True)}
        return {ids_of[key]: image for key, image in self._room.kept.get(list(ids_of)).items()}

    @cached_property
    def _tags(self) -> list[str]:
        """Of each shard and its stamp, by which its images are kept: what comes to the pool leaves the others where they are."""
        return [f"{digest(shard.name, shard.stamp)[:12]}|" for shard in self.shards]

    def by_shard(self, chosen: Positions) -> Iterator[tuple[int, Positions]]:
        """Number of each shard, and which of `chosen` are in it."""
        shard_of = np.searchsorted(self.part.starts, chosen, "right") - 1
        for shard in np.unique(shard_of).tolist():
            yield shard, np.flatnonzero(shard_of == shard)

    def _fetched(self, number: int, ids: list[str], positions: Positions) -> dict[str, Bytes]:
        """From the store: these, and what comes with them if there is room for it."""
        shard, (first, last) = self.shards[number], self.part.starts[number : number + 2].tolist()
        part = Part(shard.name, shard.stamp, ids, self.part.places[positions])
        if self._room is not None and self._room.neighbours:
            all_places = np.asarray(self.part.places[first:last])
            rows = np.union1d(self._format.neighbours(self._storage, part, all_places), positions - first)
            part = Part(shard.name, shard.stamp, [self.part.ids[first + i] for i in rows.tolist()], all_places[rows])
        return dict(zip(part.ids, self._format.fetch(self._storage, part), strict=True))

    def _check(self, numbers: list[int]) -> None:
        """After the reading. PoolError where one of these shards is another one by now; of a store several are asked at once."""

        def check(number: int) -> None:
            check_unchanged(self._storage, self._format, self.shards[number].name, self.shards[number].stamp)

        threads = 1 if self._storage.local is not None else min(CHECKED_AT_ONCE, len(numbers))
        deque(in_threads(check, numbers, threads), maxlen=0)


class WholeImages(Images):
    """Batches are read ahead in threads, and decoded."""

    def __init__(self, reader: Reader, part: JoinedPart, shards: tuple[Indexed, ...], bad: "Asides", room: Room | None):
        self.ids = part.ids
        self._reader, self._bad = reader, bad
        self._from = Encoded(reader.storage, reader.format, part, shards, room)

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """What was set aside, by earlier readings and by this one so far; its images are black."""
        return self._bad.quarantined

    def batches(self, positions: Iterable[Positions], device: torch.device) -> Iterator[Shaped[Tensor, "b c h w"]]:
        ahead = in_threads(self._encoded, positions, BATCHES_AT_ONCE)
        return send(decoded(ahead, self._decode, self._reader.threads), device)

    def read(self, position: int) -> Shaped[Tensor, "h w c"]:
        return torch.from_numpy(self._decode(self._encoded(np.array([position], dtype=np.int64)))[0])

    def _encoded(self, chosen: Positions) -> tuple[Positions, list[Bytes]]:
        return chosen, self._from.read(chosen)

    def _decode(self, piece: tuple[Positions, list[Bytes]]) -> UInt8[np.ndarray, "b h w c"]:
        chosen, images = piece
        frame = self._reader.frame
        made = np.empty((len(chosen), *frame.shape, frame.channels), dtype=np.uint8)
        for shard, here in self._from.by_shard(chosen):
            aside = self._bad.of(self._from.shards[shard])
            rows = here.tolist()
            made[here] = frame.batch([self.ids[int(chosen[i])] for i in rows], [images[i] for i in rows], aside)
            aside.save()
        return made


class Asides:
    """What was set aside in any of the shards, known as soon as somebody looks into a shard."""

    def __init__(self, reader: Reader, bad_images: BadImages):
        self._reader, self._bad_images = reader, bad_images
        self._of: dict[str, Aside] = {}
        self._all: tuple[Quarantined, ...] = ()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["Asides"], tuple[Reader, BadImages]]:
        return Asides, (self._reader, self._bad_images)

    def of(self, shard: Indexed) -> Aside:
        with self._lock:
            if shard.name not in self._of:
                check = self._reader.checking(shard.name, shard.stamp)
                self._of[shard.name] = Aside(self._reader.index, shard.name, shard.stamp, self._bad_images, check)
            return self._of[shard.name]

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        of = list(self._of.values())
        if sum(map(len, of)) != len(
            self._all
        ):  # the same object as long as nothing comes: it is asked for after each batch
            self._all = tuple(bad for aside in of for bad in aside.quarantined)
        return self._all

    def known(self, shards: Sequence[Indexed]) -> tuple[Quarantined, ...]:
        """What earlier readings set aside in these."""
        there = self._reader.index.set_aside()
        return tuple(
            bad
            for shard in shards
            if record_of(shard.name, shard.stamp, "aside") in there
            for bad in self.of(shard).quarantined
        )
