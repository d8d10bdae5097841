"""Your own images: a folder with a folder for each class, with or without separate train and test folders."""

from dataclasses import dataclass
from pathlib import Path

from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.pool.base import Pool, Source
from mcdal.pool.class_folders import find_classes, listing, split_by_share, subfolders
from mcdal.pool.decode import MAX_PIXELS, BadImages
from mcdal.pool.prepare import Listing, Reading, prepare

TRAIN, TEST = ("train", "training"), ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class Folder(Source):
    """A folder of class folders. With `train` and `test` (or `val`) in it these are used, else a share is held out."""

    data: Path
    """Folder with a folder for each class, or with `train` and `test` (or `val`) that have them."""
    test: Path | None = None
    """Another folder of class folders with the test images."""
    test_share: float = 0.2
    """Share of every class that is held out for the test where there is no test folder."""
    split_seed: int = 0
    """Seed of the held-out split."""
    size: int | None = None
    """Side in pixels that images are scaled and cropped to; without it all images must have one shape."""
    bad_images: BadImages = "refuse"
    """What is done with unusable images: refuse, quarantine (set aside), or convert (where there is a way)."""
    max_pixels: int = MAX_PIXELS
    """Images with more pixels are not decoded."""
    cache_gib: float = 4.0
    """Decoded images are kept on disk up to this size; beyond it files are decoded again for every batch."""
    workers: int = 4
    """Threads that decode at the first opening, and processes that decode batches where images are not kept."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        reading = Reading(self.size, self.bad_images, self.max_pixels, self.cache_gib, self.workers)
        return prepare(self._listing(Path(self.data).expanduser()), reading, cache, listen)

    def _listing(self, data: Path) -> Listing:
        if not data.is_dir():
            raise PoolError(
                f"the folder {data} does not exist: set source.data to a folder with a folder for each class"
            )
        inside = {folder.name.lower(): folder for folder in subfolders(data)}
        train = next((inside[name] for name in TRAIN if name in inside), None)
        test = Path(self.test).expanduser() if self.test else next((inside[n] for n in TEST if n in inside), None)
        name = data.resolve().name
        if train is not None and len(inside) == 1 and self.test is None:
            return split_by_share(name, find_classes(train, data), self.test_share, self.split_seed)
        if test is None or (train is None and self.test is None):
            # One folder that happens to be called "train" or "test" is a class like others.
            return split_by_share(name, find_classes(data, data), self.test_share, self.split_seed)
        pool_classes = find_classes(train or data, data)
        test_classes = find_classes(test, data if test.is_relative_to(data) else test.parent)
        files, test_files = list(pool_classes.files), list(test_classes.files)
        return listing(name, pool_classes.names, files, test_files, pool_classes.ignored + test_classes.ignored)
