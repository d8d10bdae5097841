"""What a few thousand images tell of all: shape, channels, mean and deviation. Drawn by the hash of the id, once."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Int, UInt8

from mcdal.errors import PoolError
from mcdal.events import Listener
from mcdal.hashes import hashed, mixed
from mcdal.pool.assemble import digest
from mcdal.pool.decode import Bad, Decoder
from mcdal.pool.encoded import in_threads
from mcdal.pool.streaming.format import Format, Part
from mcdal.pool.streaming.index import Index, Indexed
from mcdal.pool.streaming.joined import JoinedPart
from mcdal.pool.streaming.storage import Storage
from mcdal.pool.streaming.unchanged import check_unchanged

IMAGES, SHARDS, AT_ONCE = 2_048, 32, 64
"""Images that are looked at, and the shards they are from: one image may cost the reading of its whole row group."""
DRAW = 0x57A7


@dataclass(frozen=True)
class Looks:
    """shape: height and width. mean, std: per channel, of pixels scaled to 0..1. sample: a digest of the images looked at."""

    shape: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sample: str


@dataclass(frozen=True)
class Sample:
    """Which images are looked at, and how they are read."""

    storage: Storage
    format: Format
    decoder: Decoder
    channels: int | None
    threads: int

    def looks(self, part: JoinedPart, shards: Sequence[Indexed], listen: Listener) -> Looks:
        """PoolError where no image can be read, or where they are of many shapes."""
        seen, sums = _Seen(self.channels), []
        parts = _drawn(part, shards, self.format)
        for done, (some, (sum, decoded)) in enumerate(
            zip(parts, in_threads(self._decoded, parts, self.threads), strict=True)
        ):
            listen("prepare", done=done, total=len(parts), what="looking at a sample of the images")
            for id, image in zip(some.ids, decoded, strict=True):
                seen.add(id, image)
            sums.append(sum)
        return seen.looks(digest(sums))

    def _decoded(self, part: Part) -> tuple[str, list[UInt8[np.ndarray, "h w c"] | Bad]]:
        images = self.format.fetch(self.storage, part)
        check_unchanged(self.storage, self.format, part.shard, part.stamp)
        found = [self.decoder.decode(image) for image in images]
        pixels = [image if isinstance(image, Bad) else image.pixels for image in found]
        return digest(part.ids, *(image or b"" for image in images)), pixels


def recorded(
    index: Index, key: str, made: "Sample", part: JoinedPart, shards: Sequence[Indexed], listen: Listener
) -> Looks:
    """As they were when the pool was first opened with these settings; measured now if it never was."""
    name = f"looks-{key}.json"
    if index.root.exists(name):
        told = json.loads(index.root.read(name))
        return Looks(tuple(told["shape"]), told["channels"], tuple(told["mean"]), tuple(told["std"]), told["sample"])
    looks = made.looks(part, shards, listen)
    index.root.write(name, json.dumps(asdict(looks)).encode())
    return looks


def _drawn(part: JoinedPart, shards: Sequence[Indexed], format: Format) -> list[Part]:
    """Some images of some shards; where one costs its row group, from as few of these as have enough."""
    counts = np.diff(part.starts)
    filled = np.flatnonzero(counts)
    lot = mixed(hashed([shards[i].name for i in filled.tolist()]), DRAW)
    chosen = np.sort(filled[np.argsort(lot, kind="stable")[:SHARDS]])
    each = -(-IMAGES // len(chosen))
    parts = []
    for number in chosen.tolist():
        first, last = part.starts[number : number + 2].tolist()
        places, ids = np.asarray(part.places[first:last]), part.ids[first:last]
        draw = mixed(hashed(ids), DRAW)
        rows = np.argsort(draw, kind="stable")
        if format.dear:
            groups = places[rows, 0]
            order, firsts, counted = np.unique(groups, return_index=True, return_counts=True)
            drawn = np.argsort(firsts)  # a row group is drawn when the first of its rows is
            enough = int(np.searchsorted(np.cumsum(counted[drawn]), each)) + 1
            rows = rows[np.isin(groups, order[drawn[:enough]])]
        rows = np.sort(rows[:each])
        for some in _pieces(rows, places[rows, 0] if format.dear else np.arange(len(rows)) // AT_ONCE):
            parts.append(Part(shards[number].name, shards[number].stamp, [ids[i] for i in some.tolist()], places[some]))
    return parts


def _pieces(rows: Int[np.ndarray, " n"], of: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " m"]]:
    """What is read at once: rows with one number in `of`."""
    return np.split(rows, np.flatnonzero(np.diff(of)) + 1)


class _Seen:
    """Sums over the images so far, of grey ones as of three equal channels."""

    def __init__(self, channels: int | None):
        self._given = channels
        self._shape: tuple[int, int] | None = None
        self._shape_of, self._channels, self._pixels, self._why = "", 1, 0, "there is none"
        self._sum, self._squares = np.zeros(3), np.zeros(3)

    def add(self, id: str, image: UInt8[np.ndarray, "h w c"] | Bad) -> None:
        if isinstance(image, Bad):
            self._why = f"{id}: {image.reason}"
            return
        height, width, channels = image.shape
        if self._shape is None:
            self._shape, self._shape_of = (height, width), id
        if self._shape != (height, width):
            raise PoolError(
                f"images must have one shape: {self._shape_of} is {self._shape[1]}x{self._shape[0]}, {id} is {width}x{height}. "
                "Add --set source.size=64 (or another size) to scale and crop them"
            )
        self._channels = max(self._channels, channels)
        values = image.reshape(-1, channels).astype(np.float64)
        self._pixels += len(values)
        self._sum += values.sum(0)
        self._squares += np.square(values).sum(0)

    def looks(self, sample: str) -> Looks:
        if self._shape is None:
            raise PoolError(f"no image of the sample can be read: {self._why}")
        channels = self._given or self._channels
        mean = self._sum / self._pixels
        std = np.sqrt(np.maximum(self._squares / self._pixels - np.square(mean), 0))
        std = np.where(std > 0, std / 255, 1.0)  # a channel that never varies would be divided by zero
        return Looks(
            self._shape, channels, tuple((mean / 255)[:channels].tolist()), tuple(std[:channels].tolist()), sample
        )
