"""The shards of a stored pool, each opened by whoever is to read it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mcdal.errors import PoolError
from mcdal.pool.assemble import Statistics, digest
from mcdal.pool.base import LabeledView, Pool
from mcdal.pool.decode import BadImages
from mcdal.pool.sharded import Shard, Sharded
from mcdal.pool.streaming.aside import Aside
from mcdal.pool.streaming.classes import targets_of
from mcdal.pool.streaming.format import Part
from mcdal.pool.streaming.images import Reader, StreamedImages
from mcdal.pool.streaming.index import Indexed, file_of
from mcdal.pool.streaming.split import Split
from mcdal.pool.streaming.storage import RELIST


@dataclass(frozen=True, eq=False)
class StoredShards(Sharded):
    """What travels to other processes: names, stamps and settings. The index is read where a shard is opened."""

    shards: tuple[Shard, ...]
    name: str
    classes: tuple[str, ...]
    reader: Reader
    split: Split
    statistics: Statistics
    fingerprint: str
    bad_images: BadImages
    labeled: bool
    indexed: dict[str, Indexed] = field(repr=False)

    def pool(self, shard: Shard) -> Pool:
        reader, known = self.reader, self.indexed[shard.name]
        now = reader.format.stamp(reader.storage, shard.name)
        if now is not None and now != shard.stamp:
            raise PoolError(
                f"the shard {reader.storage.url(shard.name)} has changed since the pool was opened ({shard.stamp} then, "
                f"{now} now): {RELIST}"
            )
        listed = reader.index.read(known)
        rows = np.flatnonzero(~self.split.test(shard.name, listed.hashes))
        ids = tuple(listed.ids.take(rows).to_pylist())
        aside = Aside(reader.index, shard.name, shard.stamp, self.bad_images, reader.checking(shard.name, shard.stamp))
        images = StreamedImages(reader, Part(shard.name, shard.stamp, ids, listed.places[rows]), aside)
        nothing = np.empty(0, dtype=np.int64)
        return Pool(
            name=f"{self.name}/{shard.name}",
            classes=self.classes,
            images=images,
            targets=targets_of(known, listed.ids, listed.labels, self.classes)[rows] if self.labeled else None,
            test=LabeledView(images, nothing, nothing),
            mean=self.statistics.mean,
            std=self.statistics.std,
            fingerprint=digest(self.fingerprint, shard.name, known.content),
            quarantine=images.quarantined,
        )

    @property
    def everywhere(self) -> bool:
        """Whether the index lies at an address, and not in a folder of this machine."""
        return self.reader.index.root.local is None

    def reaches(self, shard: Shard) -> bool:
        """Whether the index is to be seen from here."""
        return bool(self.reader.index.carried) or self.reader.index.root.exists(file_of(shard.name, shard.stamp))

    def carrying(self, shards: Sequence[Shard]) -> "StoredShards":
        """A copy for a process that cannot reach the index: it holds what the index says of these shards, and no others.

        Such a process compares no checksums and leaves no record of images that it set aside, but in `images.quarantined`.
        """
        indexed = {shard.name: self.indexed[shard.name] for shard in shards}
        reader = replace(self.reader, index=self.reader.index.carrying(list(indexed.values())))
        return replace(self, shards=tuple(shards), reader=reader, indexed=indexed)
