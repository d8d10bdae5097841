"""Your own scenes: a folder of images, a folder of masks, and a small table that says what the masks hold."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.pool.base import Pool, Source
from mcdal.pool.class_file import read_entries
from mcdal.pool.class_table import ClassTable, Entry, class_table
from mcdal.pool.decode import EXTENSIONS, MAX_PIXELS
from mcdal.pool.prepare import Reading
from mcdal.pool.scene_files import MASKS, Scene, by_stem, paired
from mcdal.pool.scenes import SceneListing, prepare_scenes
from mcdal.pool.split import stratified

ADVICE = (
    "add them to the class table (source.classes): with the name of their class, or with void = 1 where their pixels should "
    "count nowhere"
)


@dataclass(frozen=True)
class MaskFolder(Source):
    """A folder of images and one of masks, which are PNGs of the same names: numbers (grey, palette) or colours."""

    task = "segmentation"

    data: Path
    """Where the folders and the class table lie."""
    images: Path = Path("images")
    """Folder of images, in `data` or elsewhere."""
    masks: Path = Path("masks")
    """Folder of masks, with the same subfolders and names as the images'."""
    test_images: Path | None = None
    """Folder of test images; null: a share of `images` is held out."""
    test_masks: Path | None = None
    """Folder of the test images' masks."""
    classes: Path | tuple[Entry, ...] = Path("classes.csv")
    """The class table: a CSV or JSON file with columns name, id or red, green and blue, and void; or Entry(...) in a recipe."""
    mask_ending: str = ""
    """What the names of masks have behind the images' names, such as _mask."""
    groups: str | None = None
    """Regular expression whose first group names an image's sequence or camera, such as ^([^_]+)_; null: its subfolder."""
    test_share: float = 0.2
    """Share that is held out for the test where there is no test folder: whole groups, where there are two or more."""
    split_seed: int = 0
    """Seed of the held-out split."""
    size: tuple[int, int] | None = None
    """Height and width that images and masks are scaled to; null: as they are, and then all must have one size."""
    max_pixels: int = MAX_PIXELS
    """Images with more pixels are not decoded."""
    cache_gib: float = 4.0
    """Decoded images and masks are kept on disk up to this size; beyond it files are decoded again for every batch."""
    workers: int = 4
    """Threads that decode at the first opening, and processes that decode batches where images are not kept."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        data = Path(self.data).expanduser()
        name = data.resolve().name
        table = self._table(data)
        scenes = self._scenes(name, data, self.images, self.masks)
        said = ""
        if (self.test_images is None) != (self.test_masks is None):
            raise PoolError("test_images and test_masks belong together: give both, or neither")
        if self.test_images is not None and self.test_masks is not None:
            pool, test = scenes, self._scenes(name, data, self.test_images, self.test_masks)
        else:
            pool, test = held_out(scenes, self.test_share, self.split_seed)
            groups = {scene.group for scene in test if scene.group is not None}
            if groups - {scene.group for scene in pool}:
                said = f"the test is {len(test)} of {len(scenes)} images, whole groups: {', '.join(sorted(groups))}"
        notes = (said,) if said else ()
        reading = Reading(self.size, "refuse", self.max_pixels, self.cache_gib, self.workers)
        return prepare_scenes(SceneListing(name, table, pool, test, ADVICE, notes), reading, cache, listen)

    def _table(self, data: Path) -> ClassTable:
        if isinstance(self.classes, tuple):
            return class_table(self.classes)
        file = data / self.classes.expanduser()
        return class_table(read_entries(file), f"the class table {file}")

    def _scenes(self, name: str, data: Path, images: Path, masks: Path) -> tuple[Scene, ...]:
        """Ids are paths in `data`, or in the parent of a folder elsewhere, without the extension."""
        folder = data / images.expanduser()
        pairs = paired(name, by_stem(folder, EXTENSIONS), by_stem(data / masks.expanduser(), MASKS, self.mask_ending))
        named = [_group(stem, self.groups) for stem, _, _ in pairs]
        grouped = self.groups is not None or any(named)
        prefix = folder.relative_to(data) if folder.is_relative_to(data) else Path(folder.name)
        return tuple(
            Scene((prefix / stem).as_posix(), image, mask, group if grouped else None)
            for (stem, image, mask), group in zip(pairs, named, strict=True)
        )


def _group(stem: str, expression: str | None) -> str:
    """What the expression finds in the name, or the subfolder; "" for neither."""
    if expression is None:
        return stem.rpartition("/")[0]
    try:
        found = re.search(expression, stem)
        return "" if found is None else found.group(1) or ""
    except (re.error, IndexError) as error:
        raise PoolError(
            f"groups is {expression!r}: give a regular expression with one group, such as ^([^_]+)_ ({error})"
        ) from error


def held_out(scenes: Sequence[Scene], share: float, seed: int) -> tuple[tuple[Scene, ...], tuple[Scene, ...]]:
    """The pool and the test, each in order. Of a sequence all or nothing: its other frames would give the test away."""
    if len(scenes) < 2:
        raise PoolError(f"{len(scenes)} images: two are the least to hold one out for the test; or add a test folder")
    groups = [scene.group or "" for scene in scenes]
    names = tuple(sorted(set(groups)))
    whole = len(names) > 1
    units = names if whole else tuple(scene.id for scene in scenes)
    _, chosen = stratified(units, [0] * len(units), share, seed)
    test = {units[i] for i in chosen}
    held = [(group if whole else scene.id) in test for scene, group in zip(scenes, groups, strict=True)]
    pool = tuple(scene for scene, out in zip(scenes, held, strict=True) if not out)
    return pool, tuple(scene for scene, out in zip(scenes, held, strict=True) if out)
