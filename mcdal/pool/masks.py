"""Label masks: class indices for every pixel of an image, read when they are needed."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from mcdal.errors import PoolError
from mcdal.pool.decode import is_16_bit
from mcdal.values import VOID

Positions = Int[np.ndarray, " _"]


class Masks(ABC):
    """Masks by their numbers. Indexed with an array of numbers as an array is: gives class indices, and VOID."""

    size: tuple[int, int]
    """Height and width in pixels."""

    @abstractmethod
    def __getitem__(self, numbers: Positions) -> UInt8[np.ndarray, "b h w"]:
        """A copy, that may be written."""

    def told(self, numbers: Iterable[int]) -> Mapping[int, str]:
        """What another process that was sent these masks must `hear` to have all of `numbers`: nothing where it has all."""
        return {}

    def hear(self, told: Mapping[int, str]) -> None:
        """Takes what the masks of the sending process have `told`."""
        return

    def pixels(self, number: int) -> Int[np.ndarray, " 256"]:
        """How many pixels of a mask have each value; kept, since a mask never changes."""
        known: dict[int, np.ndarray] = self.__dict__.setdefault("_pixels", {})
        if number not in known:
            known[number] = np.bincount(self[np.array([number])].ravel(), minlength=VOID + 1)
        return known[number]


class ArrayMasks(Masks):
    """Masks in one array (n, h, w), in memory or memory-mapped; their numbers are their places."""

    def __init__(self, array: UInt8[np.ndarray, "n h w"]):
        self.array = array
        self.size = array.shape[1], array.shape[2]

    def __getitem__(self, numbers: Positions) -> UInt8[np.ndarray, "b h w"]:
        masks: UInt8[np.ndarray, "b h w"] = self.array[numbers]
        return masks


def read_mask(path: Path, size: tuple[int, int] | None) -> UInt8[np.ndarray, "h w"]:
    """Of a grey or palette PNG, its numbers as they are. PoolError where it is no such file, or of another size."""
    return _read(path, size, ("L", "P"), "a grey or palette PNG of 8 bits")


def read_colours(path: Path, size: tuple[int, int] | None) -> UInt8[np.ndarray, "h w 3"]:
    """Of a PNG without transparency, red, green and blue. PoolError where it is no such file, or of another size."""
    return _read(path, size, ("RGB", "P", "L"), "a PNG in colour of 8 bits a channel", convert="RGB")


def _read(
    path: Path, size: tuple[int, int] | None, modes: tuple[str, ...], wanted: str, convert: str | None = None
) -> UInt8[np.ndarray, "h w *rgb"]:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if size is not None and image.size != (size[1], size[0]):
                raise PoolError(
                    f"{path}: the mask is {image.width}x{image.height}, and its image {size[1]}x{size[0]} pixels"
                )
            deep = any(map(is_16_bit, image.tile))
            if deep or image.mode not in modes:
                has = "16 bits" if deep else f"mode {image.mode}"
                raise PoolError(f"{path}: a mask is {wanted}, and this one has {has}")
            return np.array(image if convert is None else image.convert(convert), dtype=np.uint8)
    except PoolError:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on broken files
        raise PoolError(f"{path}: the mask cannot be read: {error}") from error
