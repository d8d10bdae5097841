"""Images in shards without labels as the pool of a campaign: read where they lie; a part of them is kept for the audit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from mcdal.campaign.asked_shards import Asked, asked_about, changed, missing
from mcdal.campaign.definition import Campaign
from mcdal.campaign.images import told_so_far
from mcdal.campaign.ledger import Ledger
from mcdal.database import Database
from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.pool.assemble import chunks
from mcdal.pool.base import Images, LabeledView, Pool, Source
from mcdal.pool.conditions import Chosen
from mcdal.pool.decode import MAX_PIXELS, BadImages
from mcdal.pool.streaming.format import Found
from mcdal.pool.streaming.index import MANIFEST
from mcdal.pool.streaming.kind import Kind
from mcdal.pool.streaming.listing import Terms, not_as_they_were
from mcdal.pool.streaming.source import Shards
from mcdal.pool.streaming.split import Split
from mcdal.pool.streaming.stored import Stored

ADVICE = "put them back as they were, or take them as they are with `mcdal campaign relist`"
READ_AT_ONCE = 64


@dataclass(frozen=True)
class CampaignShards(Source):
    """Parquet, WebDataset tars, a Lance table or folders of files: new shards are known by the next round. No label is read."""

    grows: ClassVar[bool] = True

    data: Path | str
    """A folder or URL of shards, or one shard."""
    store: Path
    """Folder of the campaign."""
    campaign: str
    """Its name."""
    audit_seed: int
    """Draws each image's number."""
    audit_below: float
    """Images with a smaller number are of the audit."""
    kind: Kind
    """What the shards are."""
    size: int = 64
    """Side in pixels that images are scaled and cropped to, for the model; people see them whole."""
    image_column: str = "image"
    """Column of encoded images; in tars the ending of the image."""
    id_column: str | None = None
    """Column of stable ids; without it FILE:ROW."""
    grouped: bool = False
    """Whether groups are the folders in ids: every one of them is then in memory."""
    bad_images: BadImages = "quarantine"
    """What is done with unusable images: refuse, quarantine (set aside), or convert (where there is a way)."""
    max_pixels: int = MAX_PIXELS
    """Images with more pixels are not decoded."""
    cache_gib: float = 4.0
    """Encoded images that were read at random are kept on this disk up to this size."""
    workers: int = 4
    """Threads that decode."""
    scanners: int = 8
    """Shards that are listed at once."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        classes, labels = told_so_far(self.store, self.campaign)
        made = self.shards(classes).open_unlabeled(cache, self.split, self._terms(cache), listen)
        if not len(made) or not len(made.test.images):
            counts = f"{len(made)} images to pick from and {len(made.test.images)} for the audit"
            raise PoolError(f"{self.data}: {counts}: add images")
        audit = readable(made.test.images, listen)
        known = [(i, labels[id]) for i, id in enumerate(audit.ids) if id in labels]
        positions, y = (np.array([pair[k] for pair in known], dtype=np.int64) for k in (0, 1))
        groups = tuple(id.rpartition("/")[0] for id in made.images.ids) if self.grouped else None
        test = LabeledView(audit, positions, y)
        return replace(made, test=test, groups=groups, quarantine=made.test.images.quarantined, notes=())

    @property
    def split(self) -> Split:
        """Which images are of the audit; drawn by the hash of each id."""
        return Split(self.audit_below, self.audit_seed, False)

    def shards(self, classes: tuple[str, ...] = ()) -> Shards:
        """No label is read. Files are listed anew each time: their ids are paths, so that none is taken for another."""
        return Shards(
            str(self.data), self.kind, self.image_column, None, self.id_column, classes, size=self.size,
            bad_images=self.bad_images, max_pixels=self.max_pixels, cache_gib=self.cache_gib, workers=self.workers,
            scanners=self.scanners, relist=self.kind == "files",
        )  # fmt: skip

    @property
    def by_row(self) -> bool:
        """Whether ids are rows of a shard: in one that is written anew they are those of other images."""
        return self.kind in ("parquet", "lance") and self.id_column is None

    def stored(self, cache: Path, lists: bool = True) -> Stored:
        """The images as they lie. PoolError where they are not listed, and it does not list them."""
        return self.shards().stored(cache, self.split, self._terms(cache) if lists else None)

    def _terms(self, cache: Path) -> Terms:
        """New shards are taken in. Those that people were asked about must be what they were then, whatever the cache knows."""
        place = self.shards().place(cache)

        def look(found: Sequence[Found]) -> None:
            asked = self._asked()
            said = [f"{name} has changed" for name in changed(asked, found, place.format)]
            said += [f"{name} is missing" for name in missing(asked, found)]
            if said:
                raise not_as_they_were(place.storage, said, ADVICE)

        return Terms(self.kind == "files", True, ADVICE, look)

    def _asked(self) -> dict[str, Asked]:
        database = Database(self.store, create=False)
        try:
            return asked_about(Ledger(database, self.campaign))
        finally:
            database.close()

    def manifest(self, cache: Path) -> Path:
        """The file that is written anew whenever shards have come, changed or gone."""
        root = self.shards().place(cache).index.root.local
        assert root is not None  # it lies in the campaign's cache
        return root / MANIFEST


def readable(images: Images, listen: Listener = nobody) -> Images:
    """Those that can be decoded: all are read, as people must not be asked about others."""
    places = np.arange(len(images))
    for done, _ in enumerate(images.batches(chunks(places, READ_AT_ONCE), torch.device("cpu"))):
        listen("prepare", done=done * READ_AT_ONCE, total=len(images), what="reading the images of the audit")
    bad = frozenset(image.id for image in images.quarantined)
    at = np.array([i for i, id in enumerate(images.ids) if id not in bad], dtype=np.int64)
    ids = tuple(images.ids[i] for i in at.tolist())
    return Chosen(images, at, ids, ids)


def shards_of(campaign: Campaign, folder: Path) -> CampaignShards:
    """The images of a campaign whose store is in this folder."""
    assert campaign.kind is not None
    return CampaignShards(
        campaign.images, folder, campaign.name, campaign.seed, campaign.audit_below, campaign.kind, campaign.size,
        campaign.image_column, campaign.id_column, campaign.per_group is not None and campaign.groups is None,
    )  # fmt: skip
