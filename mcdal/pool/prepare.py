"""From encoded images to a Pool: decoded once into the cache, or, where they would not fit, at every batch."""

import warnings
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mcdal.errors import PoolError
from mcdal.events import Listener
from mcdal.pool import cache as caches
from mcdal.pool.assemble import Part, Statistics, assemble, channel_statistics, digest
from mcdal.pool.base import ArrayImages, Images, Pool, Quarantined
from mcdal.pool.decode import MAX_PIXELS, BadImages, Decoded, Decoder
from mcdal.pool.encoded import EncodedFiles, EncodedImages, decode_all
from mcdal.pool.loading import FileImages, processors
from mcdal.pool.scan import PixelFile, scan
from mcdal.values import Ids

VERSION = 1
"""Raised when the same files would decode to other pixels: it makes old cache entries and fingerprints differ."""


@dataclass(frozen=True)
class Reading:
    """How encoded images are read; the fields that sources have for it."""

    size: int | tuple[int, int] | None = None
    bad_images: BadImages = "refuse"
    max_pixels: int = MAX_PIXELS
    cache_gib: float = 4.0
    workers: int = 4

    def __post_init__(self) -> None:
        if self.bad_images not in ("refuse", "quarantine", "convert"):
            raise PoolError(f"bad_images is {self.bad_images!r}: choose refuse, quarantine or convert")
        if isinstance(self.size, int) and self.size < 1:
            raise PoolError(f"size is {self.size}: give the side of the images in pixels, such as 64")
        if isinstance(self.size, tuple) and min(self.size) < 1:
            raise PoolError(f"size is {self.size}: give height and width in pixels, such as [360, 480]")
        if not 0 < self.max_pixels <= MAX_PIXELS:
            raise PoolError(f"max_pixels is {self.max_pixels:,}: give at least 1 and at most {MAX_PIXELS:,}")
        if self.workers < 0:
            raise PoolError(f"workers is {self.workers}: give 0 or more")

    @property
    def decoder(self) -> Decoder:
        return Decoder(self.size, self.bad_images == "convert", self.max_pixels)

    @property
    def threads(self) -> int:
        return max(1, min(self.workers, processors()))


@dataclass(frozen=True, eq=False)
class Listing:
    """All that a source knows before an image is decoded.

    sizes: bytes of each file, part of the fingerprint. stamps: what changes when a file does (path, size, time), part
    of the cache's key only, so that a copy of the data is the same data.
    """

    name: str
    classes: tuple[str, ...]
    pool: EncodedImages
    test: EncodedImages
    sizes: tuple[int, ...]
    stamps: tuple[object, ...]
    notes: tuple[str, ...] = ()


def prepare(
    listing: Listing, reading: Reading, cache: Path, listen: Listener, statistics: Statistics | None = None
) -> Pool:
    """The Pool of a listing. Every image is decoded at the first opening; PoolError names those that cannot be used."""
    both = (listing.pool, listing.test)
    settings = (VERSION, listing.name, reading.size, reading.bad_images, reading.max_pixels)
    key = digest(settings, reading.cache_gib, *(part.ids for part in both), listing.stamps)
    folder = caches.entry(
        Path(cache),
        f"{listing.name}-{key[:16]}",
        lambda unfinished: _build(listing, reading, unfinished, listen),
        listen,
    )
    index = caches.read_index(folder)
    bad: dict[str, str] = index["bad"]
    parts = _parts(listing, reading, folder, index)
    used = statistics or Statistics(tuple(index["mean"]), tuple(index["std"]))
    kept = [x for part in parts for x in (part.images.ids, part.targets)]
    return assemble(
        listing.name,
        listing.classes,
        *parts,
        fingerprint=digest(settings, listing.classes, listing.sizes, *kept),
        statistics=used,
        quarantine=tuple(Quarantined(id, reason) for id, reason in bad.items()),
        notes=(*listing.notes, *index["notes"]),
    )


def _build(listing: Listing, reading: Reading, folder: Path, listen: Listener) -> None:
    """Fills a cache entry: the pixels, if they are not too many, and the findings."""
    both = (listing.pool, listing.test)
    total = sum(len(part.ids) for part in both)
    with warnings.catch_warnings():
        # Pillow warns of what is judged here, file by file.
        warnings.simplefilter("ignore")
        decoded = chain.from_iterable(decode_all(part, reading.decoder, reading.threads) for part in both)
        ids = chain.from_iterable(part.ids for part in both)
        if _fits(listing, reading, total):
            with PixelFile(folder / "pixels.npy") as pixels:
                findings = scan(listing.name, ids, total, decoded, reading.bad_images, pixels, listen)
        else:
            findings = scan(listing.name, ids, total, decoded, reading.bad_images, None, listen)
    index = findings.as_index()
    pool, _ = _parts(listing, reading, folder, index)
    _check_classes(listing, pool)
    statistics = channel_statistics(pool.images)
    caches.write_index(folder, {**index, "mean": statistics.mean, "std": statistics.std})


def _fits(listing: Listing, reading: Reading, total: int) -> bool:
    """Whether the decoded images are at most `cache_gib`, going by the first good one."""
    first = next((d for d in decode_all(listing.pool, reading.decoder, 1) if isinstance(d, Decoded)), None)
    gib = 0.0 if first is None else total * first.pixels.nbytes / 2**30
    if gib <= reading.cache_gib:
        return True
    if not isinstance(listing.pool, EncodedFiles):
        raise PoolError(
            f"{listing.name}: the decoded images take {gib:.1f} GiB, more than source.cache_gib={reading.cache_gib:g}; "
            "raise it, lower source.size, or keep the images as files"
        )
    return False


def _parts(listing: Listing, reading: Reading, folder: Path, index: dict[str, Any]) -> tuple[Part, Part]:
    """Pool and test without the images that were set aside."""
    kept = [[i for i, id in enumerate(part.ids) if id not in index["bad"]] for part in (listing.pool, listing.test)]
    stored = folder / "pixels.npy"
    # Copy-on-write: torch warns of memory that may not be written, and nothing is ever written back.
    pixels = np.load(stored, mmap_mode="c") if stored.exists() else None
    found: list[Part] = []
    start = 0
    for part, positions in zip((listing.pool, listing.test), kept, strict=True):
        ids: Ids = tuple(part.ids[i] for i in positions)
        if pixels is not None:
            images: Images = ArrayImages(ids, pixels[start : start + len(ids)])
        else:
            assert isinstance(part, EncodedFiles)
            paths = tuple(part.paths[i] for i in positions)
            images = FileImages(ids, paths, reading.decoder, index["shape"][2], reading.workers)
        start += len(ids)
        found.append(Part(images, part.targets[positions]))
    return found[0], found[1]


def _check_classes(listing: Listing, pool: Part) -> None:
    """A class that only has bad images is an error, not a class that is never seen."""
    counts = np.bincount(pool.targets, minlength=len(listing.classes))
    before = np.bincount(listing.pool.targets, minlength=len(listing.classes))
    for name, count, listed in zip(listing.classes, counts, before, strict=True):
        if listed and not count:
            raise PoolError(f"{listing.name}: all {listed} images of the class {name!r} in the pool are bad")
