"""All images of a pool in shards, read at random: for training."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from mcdal.pool.base import Images, Positions, Quarantined
from mcdal.pool.encoded import in_threads
from mcdal.pool.streaming.aside import Aside
from mcdal.pool.streaming.format import Bytes, Part
from mcdal.pool.streaming.images import Reader, send
from mcdal.pool.streaming.index import Indexed, record_of
from mcdal.pool.streaming.joined import JoinedPart
from mcdal.pool.streaming.kept import Kept


@dataclass(frozen=True, eq=False)
class Room:
    """Where encoded images are kept, and whether those that come unasked are kept too."""

    kept: Kept
    neighbours: bool


class WholeImages(Images):
    """Batches are read ahead in threads: what is kept from there, the rest shard by shard from the store."""

    def __init__(self, reader: Reader, part: JoinedPart, shards: tuple[Indexed, ...], bad: "Asides", room: Room | None):
        self.ids = part.ids
        self._reader, self._part, self._shards, self._bad, self._room = reader, part, shards, bad, room

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """What was set aside, by earlier readings and by this one so far; its images are black."""
        return self._bad.quarantined

    def batches(self, positions: Iterable[Positions], device: torch.device) -> Iterator[Shaped[Tensor, "b c h w"]]:
        return send(in_threads(self._pixels, positions, max(self._reader.threads, 2)), device)

    def read(self, position: int) -> Shaped[Tensor, "h w c"]:
        return torch.from_numpy(self._pixels(np.array([position], dtype=np.int64))[0])

    def _pixels(self, chosen: Positions) -> UInt8[np.ndarray, "b h w c"]:
        frame = self._reader.frame
        made = np.empty((len(chosen), *frame.shape, frame.channels), dtype=np.uint8)
        ids = [self.ids[i] for i in chosen.tolist()]
        known: dict[str, bytes] = {} if self._room is None else self._room.kept.get(ids)
        shard_of = np.searchsorted(self._part.starts, chosen, "right") - 1
        for shard in np.unique(shard_of).tolist():
            here = np.flatnonzero(shard_of == shard)
            aside = self._bad.of(self._shards[shard].name)
            missing = here[[ids[i] not in known for i in here.tolist()]]
            fetched = self._fetched(shard, [ids[i] for i in missing.tolist()], chosen[missing]) if len(missing) else {}
            mine = [ids[i] for i in here.tolist()]
            made[here] = frame.batch(mine, [known[id] if id in known else fetched[id] for id in mine], aside)
            aside.save()
        return made

    def _fetched(self, number: int, ids: list[str], positions: Positions) -> dict[str, Bytes]:
        """From the store; kept, if there is room for it."""
        shard, (first, last) = self._shards[number], self._part.starts[number : number + 2].tolist()
        format, storage = self._reader.format, self._reader.storage
        part = Part(shard.name, shard.stamp, ids, self._part.places[positions])
        if self._room is None:
            return dict(zip(ids, format.fetch(storage, part), strict=True))
        if self._room.neighbours:
            all_places = np.asarray(self._part.places[first:last])
            rows = np.union1d(format.neighbours(storage, part, all_places), positions - first)
            part = Part(shard.name, shard.stamp, [self.ids[first + i] for i in rows.tolist()], all_places[rows])
        found = dict(zip(part.ids, format.fetch(storage, part), strict=True))
        self._room.kept.put({id: image for id, image in found.items() if image})
        return found


class Asides:
    """What was set aside in any of the shards, known as soon as somebody looks into a shard."""

    def __init__(self, reader: Reader, bad_images: str):
        self._reader, self._bad_images = reader, bad_images
        self._of: dict[str, Aside] = {}

    def of(self, shard: str) -> Aside:
        if shard not in self._of:
            self._of[shard] = Aside(self._reader.index, shard, self._bad_images)  # type: ignore[arg-type]
        return self._of[shard]

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        return tuple(bad for aside in list(self._of.values()) for bad in aside.quarantined)

    def known(self, shards: Sequence[str]) -> tuple[Quarantined, ...]:
        """What earlier readings set aside in these."""
        there = self._reader.index.set_aside()
        return tuple(
            bad for shard in shards if record_of(shard, "aside") in there for bad in self.of(shard).quarantined
        )
