"""Caltech-101: 9,144 images of many sizes in 102 classes, background included."""

from dataclasses import dataclass
from pathlib import Path

from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.pool.base import Pool, Source
from mcdal.pool.class_folders import find_classes, split_by_share
from mcdal.pool.decode import BadImages
from mcdal.pool.prepare import Reading, prepare

FOLDER = "101_ObjectCategories"


@dataclass(frozen=True)
class Caltech101(Source):
    """The folder 101_ObjectCategories. A few of its images are grey; they are read as colour."""

    data: Path
    """The folder 101_ObjectCategories, or its parent."""
    test_share: float = 1 / 3
    """Share of every class that is held out for the test."""
    split_seed: int = 0
    """Seed of the held-out split."""
    size: int = 64
    """Side in pixels that images are scaled and cropped to."""
    bad_images: BadImages = "refuse"
    """What is done with unusable images: refuse, quarantine (set aside), or convert (where there is a way)."""
    cache_gib: float = 4.0
    """Decoded images are kept on disk up to this size; beyond it files are decoded again for every batch."""
    workers: int = 4
    """Threads that decode at the first opening, and processes that decode batches where images are not kept."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        data = Path(self.data).expanduser()
        places = (data / FOLDER, data / "caltech-101" / FOLDER, data / "caltech101" / FOLDER, data)
        folder = next((place for place in places if place.is_dir() and (place.name == FOLDER)), None)
        if folder is None:
            raise PoolError(
                f"{data} is not {FOLDER} and does not hold it: set source.data to where the archive was unpacked"
            )
        listing = split_by_share("caltech101", find_classes(folder, folder), self.test_share, self.split_seed)
        reading = Reading(self.size, self.bad_images, cache_gib=self.cache_gib, workers=self.workers)
        return prepare(listing, reading, cache, listen)
