"""A folder of images without labels as the pool of a campaign; a part of them, drawn at random, is kept for the audit."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from mcdal.campaign.draws import is_audit
from mcdal.campaign.ledger import Ledger
from mcdal.database import Database
from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.pool.base import LabeledView, Pool, Source
from mcdal.pool.class_folders import Found, found, hidden
from mcdal.pool.decode import EXTENSIONS, MAX_PIXELS, BadImages
from mcdal.pool.encoded import EncodedFiles
from mcdal.pool.prepare import Listing, Reading, prepare


@dataclass(frozen=True)
class CampaignImages(Source):
    """Every image file of a folder and below, as it is now: images may be added while people work."""

    grows: ClassVar[bool] = True

    data: Path
    """Folder of the images."""
    store: Path
    """Folder of the campaign."""
    campaign: str
    """Its name."""
    audit_seed: int
    """Draws each image's number."""
    audit_below: float
    """Images with a smaller number are of the audit."""
    size: int = 64
    """Side in pixels that images are scaled and cropped to, for the model; people see them whole."""
    bad_images: BadImages = "quarantine"
    """What is done with unusable images: refuse, quarantine (set aside), or convert (where there is a way)."""
    max_pixels: int = MAX_PIXELS
    """Images with more pixels are not decoded."""
    cache_gib: float = 4.0
    """Decoded images are kept on disk up to this size."""
    workers: int = 4
    """Threads that decode."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        files = list_images(self.data, self.store)
        audit = [file for file in files if is_audit(self.audit_seed, file.id, self.audit_below)]
        kept = {file.id for file in audit}
        pool = [file for file in files if file.id not in kept]
        if not pool or not audit:
            raise PoolError(f"{self.data}: {len(pool)} images to pick from and {len(audit)} for the audit: add images")
        classes, labels = told_so_far(self.store, self.campaign)
        reading = Reading(self.size, self.bad_images, self.max_pixels, self.cache_gib, self.workers)
        made = prepare(_listing(self.data, classes, pool, audit), reading, cache, listen)
        images = made.test.images
        known = [(i, labels[id]) for i, id in enumerate(images.ids) if id in labels]
        positions, y = (np.array([pair[k] for pair in known], dtype=np.int64) for k in (0, 1))
        folders = tuple(id.rpartition("/")[0] for id in made.images.ids)
        return replace(made, targets=None, test=LabeledView(images, positions, y), groups=folders)


def told_so_far(store: Path, campaign: str) -> tuple[tuple[str, ...], dict[str, int]]:
    """The classes of a campaign, and the labels of audit images by id."""
    database = Database(store, create=False)
    try:
        ledger = Ledger(database, campaign)
        closed = ledger.outcomes(["audit"])
        labels = {o.sample_id: o.value for o in closed if o.verdict == "label" and o.value is not None}
        return ledger.classes(), labels
    finally:
        database.close()


def list_images(folder: Path, store: Path) -> list[Found]:
    """All image files below, in the order of their ids; links that lead out of the folder are passed over.

    store: folder of the campaign, where what it writes itself is not looked for. PoolError where a folder cannot be read: what
    is in it must not be taken for gone.
    """
    if not folder.is_dir():
        raise PoolError(f"the folder {folder} does not exist: give --images the folder of the images")
    return sorted(_walk(folder, store.resolve()), key=lambda file: file.id)


def _walk(folder: Path, store: Path) -> Iterator[Found]:
    root = folder.resolve()
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not hidden(name) and Path(parent, name).resolve() != store]
        for name in names:
            path = Path(parent, name)
            if hidden(name) or Path(name).suffix.lower() not in EXTENSIONS:
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                continue
            yield found(path, path.relative_to(folder).as_posix(), "")


def _refuse(error: OSError) -> None:
    raise PoolError(f"cannot read {error.filename}: {error.strerror}; make it readable, or wait until the disk is back")


def _listing(folder: Path, classes: tuple[str, ...], pool: list[Found], audit: list[Found]) -> Listing:
    files = [*pool, *audit]
    return Listing(
        folder.resolve().name, classes, _unlabeled(pool), _unlabeled(audit),
        sizes=tuple(f.size for f in files), stamps=tuple((str(f.path), f.size, f.changed) for f in files),
    )  # fmt: skip


def _unlabeled(files: list[Found]) -> EncodedFiles:
    """With classes that mean nothing; what people say takes their place."""
    return EncodedFiles(
        tuple(f.id for f in files), np.zeros(len(files), dtype=np.int64), tuple(f.path for f in files)
    )  # fmt: skip
