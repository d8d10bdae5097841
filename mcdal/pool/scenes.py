"""From images and masks in files to a Pool: decoded once into the cache, or, where they would not fit, at every batch."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mcdal.errors import PoolError
from mcdal.events import Listener
from mcdal.pool import cache as caches
from mcdal.pool.assemble import digest
from mcdal.pool.base import ArrayImages, Images, LabeledView, Pool
from mcdal.pool.class_table import ClassTable
from mcdal.pool.decode import Decoded
from mcdal.pool.encoded import in_threads
from mcdal.pool.loading import FileImages
from mcdal.pool.masks import ArrayMasks, Masks
from mcdal.pool.prepare import Reading
from mcdal.pool.scan import PixelFile
from mcdal.pool.scene_files import FileMasks, Scene
from mcdal.pool.scene_scan import SceneFindings, keep, look_at
from mcdal.tasks.segmentation import Segmentation

VERSION = 1
"""Raised when the same files would give other pixels or masks: it makes old cache entries and fingerprints differ."""


@dataclass(frozen=True, eq=False)
class SceneListing:
    """All that a source knows before a file is read. advice: what to do about values in masks that are no class."""

    name: str
    table: ClassTable
    pool: tuple[Scene, ...]
    test: tuple[Scene, ...]
    advice: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, part in (("pool", self.pool), ("test", self.test)):
            if not part:
                raise PoolError(f"{self.name}: no image for the {what}")
        both = {scene.image.resolve() for scene in self.pool} & {scene.image.resolve() for scene in self.test}
        if both:
            raise PoolError(f"{self.name}: {min(both)} is in the pool and in the test ({len(both)} such images)")

    @property
    def scenes(self) -> tuple[Scene, ...]:
        return (*self.pool, *self.test)


def prepare_scenes(listing: SceneListing, reading: Reading, cache: Path, listen: Listener) -> Pool:
    """The Pool of a listing. Every image and mask is decoded at the first opening; PoolError names what cannot be used."""
    states = [(str(file), *_state(file)) for scene in listing.scenes for file in (scene.image, scene.mask)]
    ids = [[scene.id for scene in part] for part in (listing.pool, listing.test)]
    settings = (VERSION, "scenes", listing.name, reading.size, reading.max_pixels, listing.table.key)
    key = digest(settings, reading.cache_gib, *ids, states)
    folder = caches.entry(
        Path(cache),
        f"{listing.name}-{key[:16]}",
        lambda unfinished: _build(listing, reading, unfinished, listen),
        listen,
    )
    index = caches.read_index(folder)
    (images, masks), (test_images, test_masks) = _parts(listing, reading, folder, index)
    count, test_count = len(listing.pool), len(listing.test)
    groups = tuple(scene.group for scene in listing.pool if scene.group is not None)
    return Pool(
        name=listing.name,
        classes=listing.table.classes,
        images=images,
        targets=np.arange(count),
        test=LabeledView(test_images, np.arange(test_count), np.arange(test_count), test_masks),
        mean=tuple(index["mean"]),
        std=tuple(index["std"]),
        # Neither where the files lie nor when they were written: a copy of the data is the same data.
        fingerprint=digest(settings, *ids, [size for _, size, _ in states]),
        notes=(*listing.notes, *index["notes"]),
        kind=Segmentation(listing.table.classes, colours=listing.table.colours),
        masks=masks,
        groups=groups or None,
    )


def _state(file: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change."""
    try:
        state = file.stat()
    except OSError as error:
        raise PoolError(f"{file} cannot be read: {error.strerror}; a link may point nowhere") from error
    return state.st_size, state.st_mtime_ns


def _build(listing: SceneListing, reading: Reading, folder: Path, listen: Listener) -> None:
    """Fills a cache entry: pixels and masks, if they are not too many, and the findings."""
    total = len(listing.scenes)
    findings = SceneFindings(listing.name, listing.table)
    with warnings.catch_warnings(), ExitStack() as files:
        # Pillow warns of what is judged here, file by file.
        warnings.simplefilter("ignore")
        kept = None
        if _fits(listing, reading):
            kept = [files.enter_context(PixelFile(folder / f"{name}.npy")) for name in ("pixels", "masks")]
        work = partial(look_at, decoder=reading.decoder, table=listing.table)
        seen = in_threads(work, listing.scenes, reading.threads)
        for done, (scene, found) in enumerate(zip(listing.scenes, seen, strict=True)):
            if done % 50 == 0:
                listen("prepare", done=done, total=total, what=f"decoding {listing.name}")
            findings.note(scene, found, "pool" if done < len(listing.pool) else "test")
            if kept is not None:
                keep(found, *kept)
        listen("prepare", done=total, total=total, what=f"decoding {listing.name}")
        findings.check(listing.advice)
    caches.write_index(folder, findings.as_index())


def _fits(listing: SceneListing, reading: Reading) -> bool:
    """Whether the decoded images and masks are at most `cache_gib`, going by the first image that can be read."""
    decoded = (reading.decoder.decode(scene.image) for scene in listing.scenes)
    first = next((image for image in decoded if isinstance(image, Decoded)), None)
    if first is None:
        return True
    height, width, channels = first.pixels.shape
    gib: float = len(listing.scenes) * height * width * (channels + 1) / 2**30
    return gib <= reading.cache_gib


def _parts(
    listing: SceneListing, reading: Reading, folder: Path, index: dict[str, Any]
) -> Iterator[tuple[Images, Masks]]:
    """Images and masks of the pool, then of the test."""
    height, width, channels = index["shape"]
    # Copy-on-write: torch warns of memory that may not be written, and nothing is ever written back.
    stored = [np.load(path, mmap_mode="c") for name in ("pixels", "masks") if (path := folder / f"{name}.npy").exists()]
    start = 0
    for part in (listing.pool, listing.test):
        ids = tuple(scene.id for scene in part)
        rows = slice(start, start + len(part))
        start += len(part)
        if stored:
            pixels, masks = stored
            yield ArrayImages(ids, pixels[rows]), ArrayMasks(masks[rows, :, :, 0])
        else:
            files = tuple(scene.image for scene in part)
            images = FileImages(ids, files, reading.decoder, channels, reading.workers)
            yield images, FileMasks(tuple(scene.mask for scene in part), listing.table, (height, width))
