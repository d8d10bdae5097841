"""Images and their masks as files: who belongs to whom, and masks that are read whenever they are asked for."""

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mcdal.errors import PoolError
from mcdal.pool.class_folders import hidden
from mcdal.pool.class_table import ClassTable
from mcdal.pool.masks import Masks, Positions
from mcdal.pool.scan import first

MASKS = frozenset({".png"})


@dataclass(frozen=True)
class Scene:
    """An image and its mask. group: what it is near to (a sequence, a camera)."""

    id: str
    image: Path
    mask: Path
    group: str | None = None


def by_stem(folder: Path, extensions: Iterable[str], ending: str = "") -> dict[str, Path]:
    """The files of a folder and below, by their paths in it without `ending` and extension. PoolError for two of one name."""
    if not folder.is_dir():
        raise PoolError(f"the folder {folder} does not exist")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix.lower() not in extensions or not path.stem.endswith(ending) or any(map(hidden, inside.parts)):
            continue
        if path.is_dir():
            continue
        stem = inside.with_suffix("").as_posix().removesuffix(ending)
        try:
            stem.encode()
        except UnicodeEncodeError:
            raise PoolError(f"the file name {os.fsencode(path)!r} is not UTF-8: rename the file") from None
        if stem in found:
            raise PoolError(f"{found[stem]} and {path} have one name: which is meant? Remove one, or rename it")
        found[stem] = path
    return found


def paired(name: str, images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[tuple[str, Path, Path]]:
    """(stem, image, mask), sorted by stem. PoolError that names images without a mask and masks without an image."""
    lines = [f"{images[stem]}: no mask" for stem in sorted(images.keys() - masks.keys())]
    lines += [f"{masks[stem]}: no image" for stem in sorted(masks.keys() - images.keys())]
    if lines:
        raise PoolError(
            "\n".join(
                [
                    f"{name}: {len(lines)} files lack their other half",
                    *first(lines),
                    "add what is missing under the same name, or remove these",
                ]
            )
        )
    return [(stem, images[stem], masks[stem]) for stem in sorted(images)]


def scaled(mask: UInt8[np.ndarray, "h w"], size: tuple[int, int] | None) -> UInt8[np.ndarray, "i j"]:
    """By the nearest pixel: classes have no mean."""
    if size is None or mask.shape == size:
        return mask
    return np.array(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))


class FileMasks(Masks):
    """Mask files, all of which could be read when the pool was opened; their numbers are their places."""

    def __init__(self, paths: tuple[Path, ...], table: ClassTable, size: tuple[int, int]):
        self.size = size
        self._paths = paths
        self._table = table

    def __getitem__(self, numbers: Positions) -> UInt8[np.ndarray, "b h w"]:
        masks = np.empty((len(numbers), *self.size), dtype=np.uint8)
        for i, number in enumerate(numbers.tolist()):
            masks[i] = self._read(self._paths[number])
        return masks

    def _read(self, path: Path) -> UInt8[np.ndarray, "h w"]:
        with warnings.catch_warnings():
            # What Pillow warns of was judged when the pool was opened.
            warnings.simplefilter("ignore")
            mask, unknown = self._table.read(path, None)
        if unknown:
            raise PoolError(
                f"{path} has changed since the pool was opened: {self._table.says(min(unknown))} is no class"
            )
        return scaled(mask, self.size)
