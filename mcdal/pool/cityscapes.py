"""Cityscapes in its original layout: street scenes of 2048x1024 from 50 cities, 19 classes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.pool.base import Pool, Source
from mcdal.pool.class_table import ClassTable, Entry, class_table
from mcdal.pool.prepare import Reading
from mcdal.pool.scene_files import MASKS, Scene, by_stem, paired
from mcdal.pool.scenes import SceneListing, prepare_scenes
from mcdal.values import VOID

# The official label id, name and colour of each class that is evaluated, in the order of the train ids.
CLASSES = (
    Entry("road", 7, (128, 64, 128)),
    Entry("sidewalk", 8, (244, 35, 232)),
    Entry("building", 11, (70, 70, 70)),
    Entry("wall", 12, (102, 102, 156)),
    Entry("fence", 13, (190, 153, 153)),
    Entry("pole", 17, (153, 153, 153)),
    Entry("traffic light", 19, (250, 170, 30)),
    Entry("traffic sign", 20, (220, 220, 0)),
    Entry("vegetation", 21, (107, 142, 35)),
    Entry("terrain", 22, (152, 251, 152)),
    Entry("sky", 23, (70, 130, 180)),
    Entry("person", 24, (220, 20, 60)),
    Entry("rider", 25, (255, 0, 0)),
    Entry("car", 26, (0, 0, 142)),
    Entry("truck", 27, (0, 0, 70)),
    Entry("bus", 28, (0, 60, 100)),
    Entry("train", 31, (0, 80, 100)),
    Entry("motorcycle", 32, (0, 0, 230)),
    Entry("bicycle", 33, (119, 11, 32)),
)
LABEL_IDS = 34
LICENSE_PLATE = 255  # -1 in 8 bits
COUNTS = {"train": 2975, "val": 500}
Kind = Literal["labelIds", "labelTrainIds"]


@dataclass(frozen=True)
class Cityscapes(Source):
    """Folders leftImg8bit and gtFine with train and val, a folder for each city. The pool is train, the test val."""

    task = "segmentation"

    data: Path
    """The folder that holds leftImg8bit and gtFine, or leftImg8bit_trainvaltest and gtFine_trainvaltest as unpacked."""
    masks: Kind = "labelIds"
    """Which files of gtFine are read: labelIds (0 to 33, as published), or labelTrainIds (0 to 18), which their scripts make."""
    size: tuple[int, int] | None = None
    """Height and width that images and masks are scaled to; null: as they are, 1024 and 2048."""
    cache_gib: float = 4.0
    """Decoded images and masks are kept on disk up to this size; beyond it files are decoded again for every batch."""
    workers: int = 4
    """Threads that decode at the first opening, and processes that decode batches where images are not kept."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        if self.masks not in ("labelIds", "labelTrainIds"):
            raise PoolError(f"masks is {self.masks!r}: choose labelIds or labelTrainIds")
        data = Path(self.data).expanduser()
        folders = _folder(data, "leftImg8bit"), _folder(data, "gtFine")
        pool, test = (tuple(_scenes(*folders, split, self.masks)) for split in COUNTS)
        notes = [
            f"Cityscapes is not complete: {split} has {len(part):,} images, not {count:,}"
            for part, (split, count) in zip((pool, test), COUNTS.items(), strict=True)
            if len(part) != count
        ]
        advice = f"Cityscapes has no such {self.masks}: look at these files"
        listing = SceneListing("cityscapes", table(self.masks), pool, test, advice, tuple(notes))
        return prepare_scenes(
            listing, Reading(self.size, cache_gib=self.cache_gib, workers=self.workers), cache, listen
        )


def table(masks: Kind) -> ClassTable:
    """What the numbers of these files mean: all that are not evaluated are void."""
    if masks == "labelTrainIds":
        trained = (Entry(entry.name, index, entry.colour) for index, entry in enumerate(CLASSES))
        return class_table((*trained, Entry("void", VOID, void=True)))
    evaluated = {entry.id for entry in CLASSES}
    others = (id for id in (*range(LABEL_IDS), LICENSE_PLATE) if id not in evaluated)
    return class_table((*CLASSES, *(Entry("void", id, void=True) for id in others)))


def _folder(data: Path, name: str) -> Path:
    places = data / name, data / f"{name}_trainvaltest" / name, data / "cityscapes" / name
    found = next((place for place in places if (place / "train").is_dir()), None)
    if found is None:
        raise PoolError(
            f"{data} has no folder {name} with train and val: set source.data to where leftImg8bit_trainvaltest.zip and "
            "gtFine_trainvaltest.zip were unpacked"
        )
    return found


def _scenes(images: Path, masks: Path, split: str, kind: Kind) -> Iterator[Scene]:
    """Ids are split and frame, as "train/aachen_000000_000019": the city stands in the name. Groups are cities."""
    pairs = paired(
        "cityscapes",
        by_stem(images / split, MASKS, "_leftImg8bit"),
        by_stem(masks / split, MASKS, f"_gtFine_{kind}"),
    )
    for stem, image, mask in pairs:
        frame = Path(stem).name
        yield Scene(f"{split}/{frame}", image, mask, frame.partition("_")[0])
