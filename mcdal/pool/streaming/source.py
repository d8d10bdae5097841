"""Pools that are not copied: shards on a disk or in a bucket, listed once and read where they lie."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.pool.assemble import Statistics, digest
from mcdal.pool.base import LabeledView, Pool, Source
from mcdal.pool.decode import MAX_PIXELS, BadImages
from mcdal.pool.prepare import Reading
from mcdal.pool.sharded import Shard
from mcdal.pool.streaming.classes import check_labels, find_classes
from mcdal.pool.streaming.format import Format
from mcdal.pool.streaming.frame import Frame
from mcdal.pool.streaming.images import Reader
from mcdal.pool.streaming.index import VERSION, Index, Indexed
from mcdal.pool.streaming.joined import Joined, join
from mcdal.pool.streaming.kept import Kept
from mcdal.pool.streaming.kinds import Names, format_of
from mcdal.pool.streaming.listing import Terms, update
from mcdal.pool.streaming.shards import StoredShards
from mcdal.pool.streaming.split import Split, is_test
from mcdal.pool.streaming.statistics import Looks, Sample, recorded
from mcdal.pool.streaming.storage import Storage
from mcdal.pool.streaming.stored import Place, Stored
from mcdal.pool.streaming.whole import Asides, Room, WholeImages

Data: TypeAlias = str | Path | Sequence[str]


@dataclass(frozen=True)
class Shards(Source):
    """Parquet, WebDataset tars, a Lance table or folders of files, on a disk or anywhere that fsspec reads.

    Shards with the word `test` in their path are the test images, if there are any.
    """

    data: Data
    """A folder or URL (s3://, gs://, https://) of shards, one shard, or a list of shards."""
    kind: Literal["auto", "parquet", "tar", "lance", "files"] = "auto"
    """What the shards are; auto looks at what lies there."""
    image_column: str = "image"
    """Column of encoded images: binary, or a struct with `bytes`. In tars the ending of the image, where a sample has several."""
    label_column: str | None = "label"
    """Column of class indices or names, or a field of the JSON in tars. null: labels are not read."""
    id_column: str | None = None
    """Column of stable ids; without it FILE:ROW."""
    classes: Sequence[str] = ()
    """Class names; without them those in the schema's metadata, or the values of the labels."""
    test_share: float = 0.2
    """Share that is held out for the test where there are no test shards; drawn by each id alone."""
    split_seed: int = 0
    """Seed of the held-out share."""
    size: int | None = None
    """Side in pixels that images are scaled and cropped to; without it all images must have one shape."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour; without it what a sample of the images has."""
    bad_images: BadImages = "refuse"
    """What is done with unusable images as they are read: refuse, quarantine (set aside), or convert (where there is a way)."""
    max_pixels: int = MAX_PIXELS
    """Images with more pixels are not decoded."""
    files_per_shard: int = 10_000
    """Files that make a shard, where files lie by themselves."""
    cache_gib: float = 4.0
    """Encoded images that were read at random are kept on this disk up to this size."""
    workers: int = 4
    """Threads that decode."""
    scanners: int = 8
    """Shards that are listed at once."""
    index: str | None = None
    """Folder or URL of the index, for machines that share one; without it in the run's cache."""
    relist: bool = False
    """Shards that have changed, gone or come are listed anew instead of refused."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        self._check()
        place = self.place(cache)
        terms = Terms(self.relist)
        shards = tuple(update(place.index, place.storage, place.format, self.scanners, listen, terms))
        by_shard = any(is_test(shard.name) and shard.labels != "none" for shard in shards)
        split = Split(self.test_share, self.split_seed, by_shard)
        with_labels = check_labels(shards, split)
        if not with_labels:
            split = Split(0.0, self.split_seed, by_shard)
        classes = find_classes(place.index, shards, self.classes)
        content = place.content(shards, split, classes)
        return self._opened(place, shards, split, classes, content, with_labels, cache, listen)

    def place(self, cache: Path) -> Place:
        """Where all lies. PoolError where two kinds of shards do."""
        storage = Storage.of(self.data)
        names = Names(self.image_column, self.label_column, self.id_column, self.files_per_shard)
        storage, format = format_of(self.kind, storage, names)
        return Place(storage, format, Index(self._index_root(storage, format, Path(cache))))

    def open_unlabeled(self, cache: Path, split: Split, terms: Terms, listen: Listener = nobody) -> Pool:
        """What people label: `split` says which images test a model. No label is read, and those of the test are -1.

        `classes` may become more without anything being read anew.
        """
        self._check()
        place = self.place(cache)
        shards = self.listed(place, self.joining(place, cache, split, terms, listen), listen)
        content = place.content(shards, split, ())
        return self._opened(place, shards, split, tuple(self.classes), content, False, cache, listen)

    def listed(self, place: Place, terms: Terms, listen: Listener = nobody) -> tuple[Indexed, ...]:
        """All shards of now. PoolError for those that are not as they were, and where there is no image."""
        shards = update(place.index, place.storage, place.format, self.scanners, listen, terms)
        check_labels(shards, Split(0.0, self.split_seed, False))
        return tuple(shards)

    def stored(self, cache: Path, split: Split, terms: Terms | None, listen: Listener = nobody) -> Stored:
        """The images of `open_unlabeled` as they lie, by the index as it was left.

        Where there is none it is made on these terms; PoolError where there are no terms.
        """
        place = self.place(cache)
        there = place.index.manifest()
        if there is None:
            if terms is None:
                raise PoolError("the images are being listed: wait until that is done")
            there = list(self.listed(place, self.joining(place, cache, split, terms, listen), listen))
        shards = tuple(there)
        key = place.stamps(place.content(shards, split, ()), shards)
        joined = self._joined(place, shards, split, (), key, cache, listen)
        return Stored(place, shards, joined, lambda: self._room(place, shards, cache, listen))

    def joining(self, place: Place, cache: Path, split: Split, terms: Terms, listen: Listener) -> Terms:
        """No list takes the place of another one that cannot be joined: an id that comes twice leaves all as it was."""

        def check(shards: Sequence[Indexed]) -> None:
            terms.check(shards)
            key = place.stamps(place.content(shards, split, ()), shards)
            self._joined(place, shards, split, (), key, cache, listen)

        return replace(terms, check=check)

    def _opened(
        self, place: Place, shards: tuple[Indexed, ...], split: Split, classes: tuple[str, ...], content: str,
        with_labels: bool, cache: Path, listen: Listener,
    ) -> Pool:  # fmt: skip
        reading = Reading(self.size, self.bad_images, self.max_pixels, self.cache_gib, self.workers)
        stamps = place.stamps(content, shards)
        joined = self._joined(place, shards, split, classes, stamps, cache, listen)
        settings = (self.size, self.bad_images == "convert", self.max_pixels, self.channels)
        sample = Sample(place.storage, place.format, reading.decoder, self.channels, reading.threads)
        looks = recorded(place.index, digest(stamps, settings)[:16], sample, joined.pool, shards, listen)
        frame = Frame(reading.decoder, looks.shape, looks.channels)
        reader = Reader(place.storage, place.format, place.index, frame, reading.threads)
        fingerprint = digest(content, settings, self.bad_images, looks.sample)
        opened = _Opened(self, place.storage.name, classes, reader, split, looks, fingerprint)
        return opened.pool(joined, shards, with_labels, self._room(place, shards, cache, listen))

    def _check(self) -> None:
        if not 0 <= self.test_share < 1:
            raise PoolError(f"test_share is {self.test_share}: give a number of at least 0 and below 1, such as 0.2")
        if min(self.files_per_shard, self.scanners) < 1:
            raise PoolError("files_per_shard and scanners must be at least 1")

    def _index_root(self, storage: Storage, format: Format, cache: Path) -> Storage:
        key = digest(VERSION, storage.root, storage.names, type(format).__name__, list(vars(format).items()))[:16]
        folder = f"index-{storage.name}-{key}"
        if self.index is None:
            return Storage(f"{cache.resolve().as_posix()}/{folder}")
        root = Storage.of(self.index)
        return Storage(root.url(folder))

    def _joined(
        self, place: Place, shards: Sequence[Indexed], split: Split, classes: Sequence[str], stamps: str, cache: Path,
        listen: Listener,
    ) -> Joined:  # fmt: skip
        name = f"joined-{place.storage.name}-{stamps}"
        return join(place.index, shards, split, classes, Path(cache), name, listen)

    def _room(self, place: Place, shards: Sequence[Indexed], cache: Path, listen: Listener) -> Room | None:
        """Where single images cost little, nothing is kept."""
        limit = int(self.cache_gib * 2**30)
        if not limit or (place.storage.local is not None and not place.format.dear):
            return None
        path = Path(cache) / f"encoded-{place.storage.name}-{place.key}.sqlite"
        return Room(Kept(path, limit, listen), neighbours=sum(shard.bytes for shard in shards) < limit)


@dataclass(frozen=True)
class _Opened:
    """All that is known once the index and the looks are."""

    source: Shards
    name: str
    classes: tuple[str, ...]
    reader: Reader
    split: Split
    looks: Looks
    fingerprint: str

    def pool(self, joined: Joined, shards: tuple[Indexed, ...], with_labels: bool, room: Room | None) -> Pool:
        looks, bad = self.looks, Asides(self.reader, self.source.bad_images)
        images = WholeImages(self.reader, joined.pool, shards, bad, room)
        test = WholeImages(self.reader, joined.test, shards, bad, room)
        known = bad.known(shards)
        away = joined.test.ids.positions([image.id for image in known])
        tested = np.setdiff1d(np.arange(len(test)), away)
        counts = np.diff(joined.pool.starts).tolist()
        parts = tuple(Shard(s.name, count, s.stamp) for s, count in zip(shards, counts, strict=True) if count)
        sharded = StoredShards(
            parts, self.name, self.classes, self.reader, self.split, Statistics(looks.mean, looks.std), self.fingerprint,
            self.source.bad_images, with_labels, {shard.name: shard for shard in shards},
        )  # fmt: skip
        return Pool(
            name=self.name,
            classes=self.classes,
            images=images,
            targets=joined.pool.targets if with_labels else None,
            test=LabeledView(test, tested, joined.test.targets[tested]),
            mean=looks.mean,
            std=looks.std,
            fingerprint=self.fingerprint,
            quarantine=known,
            notes=() if with_labels else ("the pool has no labels of its own",),
            sharded=sharded,
        )
