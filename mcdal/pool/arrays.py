"""Images that are in memory already, as numpy arrays or torch tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped

from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.pool.assemble import from_arrays
from mcdal.pool.base import Pool, Source
from mcdal.pool.split import stratified


@dataclass(frozen=True, eq=False)
class Arrays(Source):
    """Your own arrays: uint8 (n, h, w, c) or (n, h, w), or floats (n, c, h, w) that are normalised already."""

    x: Any
    """Images of the pool: uint8 (n, h, w, c) or (n, h, w), or floats (n, c, h, w)."""
    y: Any
    """Class index of each image."""
    test_x: Any = None
    """Test images; without them a share of the pool is held out."""
    test_y: Any = None
    """Class index of each test image."""
    classes: Sequence[str] | None = None
    """Class names; without them the indices are the names."""
    ids: Sequence[str] | None = None
    """Stable id of each image of the pool; without them the place in the array, such as `train/00017`."""
    test_share: float = 0.2
    """Share of every class that is held out where no test images are given."""
    split_seed: int = 0
    """Seed of the held-out split."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        x, y = pixels_of("x", self.x), targets_of("y", self.y)
        ids = tuple(self.ids) if self.ids is not None else numbered("train", len(x))
        if not len(ids) == len(x) == len(y):
            raise PoolError(f"arrays: {len(x)} images, {len(y)} targets and {len(ids)} ids: give as many of each")
        if self.test_x is None:
            chosen = stratified(ids, y, self.test_share, self.split_seed)
            pool, test = ((tuple(ids[i] for i in part), x[part], y[part]) for part in chosen)
        else:
            test_x, test_y = pixels_of("test_x", self.test_x), targets_of("test_y", self.test_y)
            if len(test_x) != len(test_y):
                raise PoolError(f"arrays: {len(test_x)} test images with {len(test_y)} targets: give as many of each")
            if x.shape[1:] != test_x.shape[1:] or x.dtype != test_x.dtype:
                raise PoolError(f"arrays: x is {describe(x)} but test_x is {describe(test_x)}: make them alike")
            pool, test = (ids, x, y), (numbered("test", len(test_x)), test_x, test_y)
        classes = self.classes or [str(c) for c in range(int(pool[2].max(initial=-1)) + 1)]
        return from_arrays("arrays", classes, pool, test)


def numbered(split: str, count: int) -> tuple[str, ...]:
    """Ids by place: `train/00000`, `train/00001`, ..."""
    return tuple(f"{split}/{i:05d}" for i in range(count))


def describe(pixels: Shaped[np.ndarray, "..."]) -> str:
    return f"{pixels.dtype} {'x'.join(map(str, pixels.shape[1:]))}"


def as_array(values: Any) -> Shaped[np.ndarray, "..."]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def pixels_of(name: str, values: Any) -> Shaped[np.ndarray, "n h w c"]:
    """uint8 as it is, floats as channels-last float32; PoolError for anything else."""
    pixels = as_array(values)
    if pixels.dtype == np.uint8 and pixels.ndim == 3:
        return pixels[..., None]
    if pixels.dtype == np.uint8 and pixels.ndim == 4:
        if pixels.shape[3] not in (1, 3):
            raise PoolError(f"arrays: {name} has {pixels.shape[3]} channels; uint8 images are (n, h, w, 1 or 3)")
        return pixels
    if np.issubdtype(pixels.dtype, np.floating) and pixels.ndim == 4:
        bad = np.flatnonzero(~np.isfinite(pixels).all(axis=(1, 2, 3)))
        if len(bad):
            raise PoolError(f"arrays: {name}[{bad[0]}] holds NaN or infinity ({len(bad)} such images)")
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1), dtype=np.float32)
    raise PoolError(
        f"arrays: {name} is {pixels.dtype} of shape {pixels.shape}; give uint8 (n, h, w, c) or (n, h, w), "
        "or normalised floats (n, c, h, w)"
    )


def targets_of(name: str, values: Any) -> Int[np.ndarray, " n"]:
    """Class indices as int64; PoolError for anything that is not one integer an image."""
    targets = as_array(values)
    if targets.ndim != 1 or not np.issubdtype(targets.dtype, np.integer):
        raise PoolError(f"arrays: {name} is {targets.dtype} of shape {targets.shape}; give one class index an image")
    return targets.astype(np.int64)
