"""CamVid in SegNet's layout: street scenes of 480x360 from four drives, 11 classes."""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.pool import cache as caches
from mcdal.pool.assemble import digest
from mcdal.pool.base import Pool, Source
from mcdal.pool.class_table import Entry, class_table
from mcdal.pool.decode import EXTENSIONS
from mcdal.pool.prepare import Reading
from mcdal.pool.scene_files import MASKS, Scene, by_stem, paired
from mcdal.pool.scenes import SceneListing, prepare_scenes

# Names, order and colours of SegNet, which merged the 32 classes of the original.
CLASSES = (
    Entry("sky", 0, (128, 128, 128)),
    Entry("building", 1, (128, 0, 0)),
    Entry("pole", 2, (192, 192, 128)),
    Entry("road", 3, (128, 64, 128)),
    Entry("pavement", 4, (60, 40, 222)),
    Entry("tree", 5, (128, 128, 0)),
    Entry("sign", 6, (192, 128, 128)),
    Entry("fence", 7, (64, 64, 128)),
    Entry("car", 8, (64, 0, 128)),
    Entry("pedestrian", 9, (64, 64, 0)),
    Entry("bicyclist", 10, (0, 128, 192)),
    Entry("void", 11, void=True),
)
COUNTS = {"train": 367, "val": 101, "test": 233}
ADVICE = (
    "CamVid's masks in SegNet's layout hold 0 to 10, and 11 for none: these are others; for masks of your own take the source "
    "for image and mask folders (MaskFolder)"
)


@dataclass(frozen=True)
class CamVid(Source):
    """Folders train, val and test of images, and trainannot, valannot and testannot of masks. The pool is train."""

    task = "segmentation"

    data: Path
    """The folder CamVid, its parent, or a tar file of it (also in a folder, as camvid.tar), which is unpacked into the cache."""
    test_split: Literal["test", "val"] = "test"
    """What models are tested on: test, or val to choose settings by."""
    size: tuple[int, int] | None = None
    """Height and width that images and masks are scaled to; null: as they are, 360 and 480."""
    cache_gib: float = 4.0
    """Decoded images and masks are kept on disk up to this size; beyond it files are decoded again for every batch."""
    workers: int = 4
    """Threads that decode at the first opening, and processes that decode batches where images are not kept."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        if self.test_split not in ("test", "val"):
            raise PoolError(f"test_split is {self.test_split!r}: choose test or val")
        folder = _folder(Path(self.data).expanduser(), Path(cache), listen)
        pool, test = (tuple(_scenes(folder, split)) for split in ("train", self.test_split))
        notes = [
            f"CamVid is not complete: {split} has {len(part)} images, not {COUNTS[split]}"
            for split, part in (("train", pool), (self.test_split, test))
            if len(part) != COUNTS[split]
        ]
        listing = SceneListing("camvid", class_table(CLASSES), pool, test, ADVICE, tuple(notes))
        return prepare_scenes(
            listing, Reading(self.size, cache_gib=self.cache_gib, workers=self.workers), cache, listen
        )


def _scenes(folder: Path, split: str) -> Iterator[Scene]:
    pairs = paired("camvid", by_stem(folder / split, EXTENSIONS), by_stem(folder / f"{split}annot", MASKS))
    for stem, image, mask in pairs:
        yield Scene(f"{split}/{stem}", image, mask, sequence(stem))


def sequence(stem: str) -> str:
    """The drive that a frame comes from: "0016E5" of "0016E5_08159"."""
    return stem.rpartition("_")[0] or stem


def _folder(data: Path, cache: Path, listen: Listener) -> Path:
    """The folder that holds `train`. A tar file is unpacked once."""
    tars = [path for path in (data, data / "camvid.tar") if path.is_file()]
    for folder in (data, data / "CamVid"):
        if (folder / "train").is_dir() and (folder / "trainannot").is_dir():
            return folder
    if not tars:
        raise PoolError(
            f"{data} does not hold CamVid in SegNet's layout: set source.data to the folder with train, trainannot, test and "
            "testannot, to its parent, or to a tar file of it"
        )
    state = tars[0].stat()
    key = digest(str(tars[0].resolve()), state.st_size, state.st_mtime_ns)
    return caches.entry(cache, f"camvid-tar-{key[:16]}", partial(_unpack, tars[0]), listen)


def _unpack(tar: Path, folder: Path) -> None:
    """Image files of the six folders and nothing else, wherever the tar says that they belong."""
    try:
        with tarfile.open(tar) as archive:
            for member in archive:
                inside = PurePosixPath(member.name)
                split = inside.parent.name
                if not member.isfile() or split.removesuffix("annot") not in COUNTS or inside.suffix not in EXTENSIONS:
                    continue
                content = archive.extractfile(member)
                assert content is not None
                place = folder / split / inside.name
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(content.read())
                # The file's own time, so that what was decoded from an earlier unpacking is still found.
                os.utime(place, (member.mtime, member.mtime))
    except (tarfile.TarError, EOFError) as error:
        raise PoolError(f"{tar} cannot be unpacked: {error}") from error
    if not any(folder.iterdir()):
        raise PoolError(f"{tar} does not hold CamVid in SegNet's layout: train/NAME.png, trainannot/NAME.png, ...")
    caches.write_index(folder, {})
