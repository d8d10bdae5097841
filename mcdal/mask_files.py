"""Masks as files by their content: what people drew, beside the store that says who drew it of what."""

import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mcdal.errors import PoolError
from mcdal.pool.masks import Masks, Positions, read_mask
from mcdal.writing import write_atomically

IN_MEMORY = 1 << 29
"""Bytes of masks that are kept decoded."""


class MaskFolder:
    """One PNG for each different mask. A file is there, whole, before anything speaks of it, and never changes."""

    def __init__(self, folder: Path):
        self.folder = folder

    def put(self, mask: UInt8[np.ndarray, "h w"]) -> str:
        """Keeps the mask; gives the digest by which it is found again."""
        name = digest(mask)
        path = self.path(name)
        if not path.exists():
            sink = io.BytesIO()
            Image.fromarray(mask).save(sink, "PNG")
            write_atomically(path, sink.getvalue())
        return name

    def size(self, name: str) -> tuple[int, int]:
        """Height and width, of the file's head alone."""
        try:
            with Image.open(self.path(name), formats=("PNG",)) as image:
                return image.height, image.width
        except OSError as error:
            raise PoolError(f"{self.path(name)}: the mask cannot be read: {error}") from error

    def path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.png"


class KeptMasks(Masks):
    """Masks of a folder by the numbers that a store gave them. names: the digest of each number, more as they come.

    Read once and checked, and kept in memory while they are not many: a training asks for each a thousand times.
    """

    def __init__(self, folder: MaskFolder, names: Mapping[int, str], size: tuple[int, int]):
        self._folder, self._names, self.size = folder, names, size
        self._read: dict[int, UInt8[np.ndarray, "h w"]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For another process: the folder alone. It reads the files itself, under the names that it hears."""
        return {"_folder": self._folder, "_names": {}, "size": self.size, "_read": {}}

    def told(self, numbers: Iterable[int]) -> Mapping[int, str]:
        """The digests of these; a number keeps its digest for ever."""
        return {number: self._names[number] for number in numbers}

    def hear(self, told: Mapping[int, str]) -> None:
        self._names = {**self._names, **told}

    def __getitem__(self, numbers: Positions) -> UInt8[np.ndarray, "b h w"]:
        masks = np.empty((len(numbers), *self.size), dtype=np.uint8)
        for i, number in enumerate(numbers.tolist()):
            masks[i] = self._mask(number)
        return masks

    def _mask(self, number: int) -> UInt8[np.ndarray, "h w"]:
        if number in self._read:
            return self._read[number]
        name = self._names[number]
        path = self._folder.path(name)
        mask = read_mask(path, self.size)
        if digest(mask) != name:
            raise PoolError(f"{path}: the mask has changed since it was drawn: restore the file from a backup")
        if (len(self._read) + 1) * mask.nbytes <= IN_MEMORY:
            self._read[number] = mask
        return mask


def digest(mask: UInt8[np.ndarray, "h w"]) -> str:
    """64 hex digits over size and pixels, whatever the file around them."""
    return hashlib.sha256(f"{mask.shape}".encode() + np.ascontiguousarray(mask).tobytes()).hexdigest()
