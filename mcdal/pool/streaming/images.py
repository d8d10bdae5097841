"""The images of one shard, read from front to back."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from mcdal.pool.base import Images, Positions, Quarantined
from mcdal.pool.streaming.ahead import in_pieces, read_ahead
from mcdal.pool.streaming.aside import Aside
from mcdal.pool.streaming.format import Bytes, Format, Part
from mcdal.pool.streaming.frame import Frame
from mcdal.pool.streaming.index import Index
from mcdal.pool.streaming.storage import Storage
from mcdal.pool.streaming.sums import summed
from mcdal.pool.streaming.unchanged import check_unchanged

PIECE = 8
"""Images that one thread decodes at a time."""
BATCHES_AHEAD = 2
"""Batches that are read while one is decoded."""


@dataclass(frozen=True)
class Reader:
    """All that is needed to read a pool's images; it travels to other processes."""

    storage: Storage
    format: Format
    index: Index
    frame: Frame
    threads: int

    def checking(self, shard: str, stamp: str) -> Callable[[], None]:
        """What raises a PoolError where the shard has another stamp than this by now."""
        return partial(check_unchanged, self.storage, self.format, shard, stamp)


class StreamedImages(Images):
    """Batches in the order of the shard are read ahead of their use, once, in bounded memory; others at random.

    An image that is bad and set aside comes as a black one, and its id is in `quarantined` when its batch comes.
    """

    def __init__(self, reader: Reader, part: Part, aside: Aside):
        self.ids = tuple(part.ids)
        self._reader, self._part, self._aside = reader, part, aside
        self._check = reader.checking(part.shard, part.stamp)

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """What was set aside of these images, by earlier readings and by this one so far."""
        mine = frozenset(self.ids)
        return tuple(image for image in self._aside.quarantined if image.id in mine)

    def batches(self, positions: Iterable[Positions], device: torch.device) -> Iterator[Shaped[Tensor, "b c h w"]]:
        return send(self._decoded(positions), device)

    def _decoded(self, positions: Iterable[Positions]) -> Iterator[UInt8[np.ndarray, "b h w c"]]:
        try:
            yield from decoded(read_ahead(self._encoded(positions), BATCHES_AHEAD), self._decode, self._reader.threads)
            self._check()
        finally:
            self._aside.save()

    def _decode(self, piece: tuple[Positions, list[Bytes]]) -> UInt8[np.ndarray, "b h w c"]:
        ids = [self.ids[i] for i in piece[0].tolist()]
        return self._reader.frame.batch(ids, piece[1], self._aside)

    def _encoded(self, positions: Iterable[Positions]) -> Iterator[tuple[Positions, list[Bytes]]]:
        stream: Iterator[Bytes] = iter(())
        at = len(self.ids)
        for chosen in positions:
            if not _dense(chosen):
                yield chosen, self._reader.format.fetch(self._reader.storage, self._some(chosen))
                continue
            if not at <= int(chosen[0]) <= at + len(chosen):
                at = int(chosen[0])
                stream = self._stream(at)
            wanted, batch = set(chosen.tolist()), []
            for i in range(at, int(chosen[-1]) + 1):
                image = next(stream)
                if i in wanted:
                    batch.append(image)
            at = int(chosen[-1]) + 1
            yield chosen, batch

    def _stream(self, first: int) -> Iterator[Bytes]:
        rest = self._some(np.arange(first, len(self.ids)))
        images = self._reader.format.stream(self._reader.storage, rest)
        return images if first else summed(self._reader.index, rest, images, self._check)

    def _some(self, rows: Positions) -> Part:
        part = self._part
        return Part(part.shard, part.stamp, [self.ids[i] for i in rows.tolist()], part.places[rows])


def decoded(
    batches: Iterator[tuple[Positions, list[Bytes]]],
    decode: Callable[[tuple[Positions, list[Bytes]]], UInt8[np.ndarray, "b h w c"]],
    threads: int,
) -> Iterator[UInt8[np.ndarray, "b h w c"]]:
    """Each batch, its images decoded by several threads. What reads the batches ends with whoever takes them."""
    with closing(batches):  # type: ignore[type-var]
        for pieces in in_pieces(batches, pieces_of, decode, threads):
            yield np.concatenate(pieces)


def pieces_of(batch: tuple[Positions, list[Bytes]]) -> list[tuple[Positions, list[Bytes]]]:
    """A batch in pieces for threads; an empty one is one piece."""
    chosen, images = batch
    starts = range(0, max(len(images), 1), PIECE)
    return [(chosen[i : i + PIECE], images[i : i + PIECE]) for i in starts]


def send(batches: Iterator[UInt8[np.ndarray, "b h w c"]], device: torch.device) -> Iterator[Shaped[Tensor, "b c h w"]]:
    """Onto the device, while the next ones are made."""
    # What Pillow warns of is judged image by image. Not by a context: several threads decode.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    with closing(batches):  # type: ignore[type-var]
        for pixels in batches:
            batch = torch.from_numpy(pixels)
            if device.type == "cuda":
                batch = batch.pin_memory().to(device, non_blocking=True)
            yield batch.permute(0, 3, 1, 2)


def _dense(chosen: Positions) -> bool:
    """Whether the rows come in their order, most of those between them too."""
    if not len(chosen):
        return False
    ascending = bool((np.diff(chosen) > 0).all())
    return ascending and int(chosen[-1] - chosen[0]) < 4 * len(chosen) + 64
