"""Pictures of what a run works on, as PNG files: anybody's tools show them, and a report needs no data set."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from mcdal.pool.base import LabeledView, Pool
from mcdal.tasks.base import Task

SCENE_SIDE, HEAT_SIDE = 640, 256
"""Larger scenes and heat maps are made this small: enough to look at, and little to keep each round."""
HOTTEST = 0.995
"""Quantile of the heat that a scale ends at: single pixels far above all others would leave the rest in the dark."""


@dataclass(frozen=True)
class Scene:
    """A test image and its true mask, both PNG. The mask holds class indices, and the task's colours where it has some."""

    image: bytes
    truth: bytes


@dataclass(frozen=True)
class Heat:
    """Grey PNG pictures by id, from `low` (black) to `high` or more (white): one scale for all that are compared."""

    pictures: Mapping[str, bytes]
    low: float
    high: float


def pick_pictures(pool: Pool, ids: Sequence[str]) -> dict[str, bytes]:
    """The images of the pool as they are."""
    return {id: png(pool.images.picture(pool.position(id))) for id in ids}


def spread_out(n: int, count: int) -> Int[np.ndarray, " k"]:
    """At most `count` of n places, evenly spaced, the same whenever they are asked for."""
    k = min(n, count)
    return (2 * np.arange(k) + 1) * n // max(1, 2 * k)


def scenes(view: LabeledView, chosen: Int[np.ndarray, " k"], task: Task) -> dict[str, Scene]:
    """Images of a view with their masks."""
    truth = view.answers(chosen)
    found = {}
    for position, mask in zip(view.positions[chosen].tolist(), truth, strict=True):
        picture = Image.fromarray(_plain(view.images.picture(position)))
        image = _png(picture.resize(_fitting(picture.size, SCENE_SIDE), Image.Resampling.BOX))
        found[view.images.ids[position]] = Scene(image, mask_picture(mask, task))
    return found


def mask_picture(mask: UInt8[np.ndarray, "h w"], task: Task) -> bytes:
    """A PNG of class indices, in the task's colours for whoever opens the file."""
    picture = Image.fromarray(mask)
    picture = picture.resize(_fitting(picture.size, SCENE_SIDE), Image.Resampling.NEAREST)
    if task.colours is not None:
        flat = [value for colour in task.colours for value in colour]
        picture.putpalette(
            flat + [0] * (3 * 256 - len(flat))
        )  # whole: with a shorter one Pillow would cut VOID to 4 bits
    return _png(picture)


def heat_pictures(ids: Sequence[str], maps: Float[np.ndarray, "k h w"]) -> Heat:
    """The maps on one scale, from their smallest value to nearly the largest."""
    size = _fitting((maps.shape[2], maps.shape[1]), HEAT_SIDE)
    floats = [Image.fromarray(m.astype(np.float32)) for m in maps]
    small = np.stack([np.asarray(f.resize(size, Image.Resampling.BOX), dtype=np.float32) for f in floats])
    low, high = float(small.min()), float(np.quantile(small, HOTTEST))
    grey = np.rint((small - low).clip(0, high - low) * (255 / max(high - low, 1e-30))).astype(np.uint8)
    return Heat({id: png(g) for id, g in zip(ids, grey, strict=True)}, low, high)


def png(pixels: UInt8[np.ndarray, "h w *c"]) -> bytes:
    return _png(Image.fromarray(_plain(pixels)))


def _plain(pixels: UInt8[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "h w *plain"]:
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels


def _png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def _fitting(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height with no side longer than `side`, and the same for all pictures of one size."""
    factor = min(1.0, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
