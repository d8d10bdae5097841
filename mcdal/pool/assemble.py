"""From images and labels to a Pool: the checks, statistics and fingerprint that all sources share."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, Shaped

from mcdal.errors import PoolError
from mcdal.ids import MappedIds
from mcdal.pool.base import ArrayImages, Images, LabeledView, Pool, Positions, Quarantined
from mcdal.values import Ids

STATISTICS_FROM = 20_000
"""Channel statistics are taken from this many images, evenly spaced, where a pool has more."""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation per channel, of pixels scaled to 0..1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Part:
    """The pool's or the test images with their true classes."""

    images: Images
    targets: Int[np.ndarray, " n"]


def assemble(
    name: str,
    classes: Sequence[str],
    pool: Part,
    test: Part,
    fingerprint: str,
    statistics: Statistics | None = None,
    quarantine: tuple[Quarantined, ...] = (),
    notes: tuple[str, ...] = (),
) -> Pool:
    """The finished Pool. `statistics` are measured on the pool's images where the source knows none."""
    for what, part in (("pool", pool), ("test", test)):
        if len(part.images) == 0:
            raise PoolError(f"{name}: no image left for the {what}")
        check_range(name, what, part.images.ids, part.targets, classes)
    twice = sorted({c for c in classes if list(classes).count(c) > 1})
    if twice:
        raise PoolError(f"{name}: the class name {twice[0]!r} is given twice")
    statistics = statistics or channel_statistics(pool.images)
    return Pool(
        name=name,
        classes=tuple(classes),
        images=pool.images,
        targets=pool.targets,
        test=LabeledView(test.images, np.arange(len(test.images)), test.targets),
        mean=statistics.mean,
        std=statistics.std,
        fingerprint=fingerprint,
        quarantine=quarantine,
        notes=notes,
    )


def check_range(name: str, what: str, ids: Ids, targets: Int[np.ndarray, " n"], classes: Sequence[str]) -> None:
    """A PoolError names the first sample whose class index has no class."""
    if len(ids) != len(targets):
        raise PoolError(f"{name}: {len(targets)} labels for {len(ids)} {what} images: give one label an image")
    wrong = np.flatnonzero((targets < 0) | (targets >= len(classes)))
    if len(wrong):
        raise PoolError(
            f"{name}: {what} sample {ids[wrong[0]]!r} has class index {targets[wrong[0]]}, but there are "
            f"{len(classes)} classes, 0 to {len(classes) - 1} ({len(wrong)} such samples)"
        )


def channel_statistics(images: Images) -> Statistics:
    """Measured in float64. Images that are normalised already keep their values: mean 0, std 1."""
    positions = np.unique(np.linspace(0, len(images) - 1, min(len(images), STATISTICS_FROM)).round().astype(np.int64))
    count = 0
    total, squares = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for batch in images.batches(chunks(positions, 32), torch.device("cpu")):
        if batch.dtype != torch.uint8:
            return Statistics((0.0,) * batch.shape[1], (1.0,) * batch.shape[1])
        values = batch.to(torch.float64)
        count += values.numel() // values.shape[1]
        total = total + values.sum(dim=(0, 2, 3))
        squares = squares + values.square().sum(dim=(0, 2, 3))
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    # A channel that never varies would be divided by zero.
    std = torch.where(std > 0, std / 255, 1.0)
    return Statistics(tuple((mean / 255).tolist()), tuple(std.tolist()))


def chunks(positions: Positions, length: int) -> Iterable[Positions]:
    """`positions` in pieces of `length`, the last one shorter."""
    return (positions[start : start + length] for start in range(0, len(positions), length))


def digest(*parts: object) -> str:
    """32 hex digits over the parts in their order: text, numbers, bytes, arrays, or lists of text and numbers."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            hasher.update(f"{part.dtype.str}{part.shape}".encode())
            hasher.update(np.ascontiguousarray(part).data)
        elif isinstance(part, bytes):
            hasher.update(part)
        elif isinstance(part, MappedIds):  # as the tuple would be
            for piece in part.pieces():
                hasher.update(piece)
        else:
            hasher.update(repr(part).encode())
        hasher.update(b"\x00|")
    return hasher.hexdigest()


def from_arrays(
    name: str,
    classes: Sequence[str],
    pool: tuple[Ids, Shaped[np.ndarray, "n h w c"], Int[np.ndarray, " n"]],
    test: tuple[Ids, Shaped[np.ndarray, "m h w c"], Int[np.ndarray, " m"]],
    statistics: Statistics | None = None,
) -> Pool:
    """A Pool of pixels that are in memory already, each part as (ids, pixels, targets). The fingerprint covers them."""
    fingerprint = digest(name, tuple(classes), *pool, *test)
    part, test_part = (Part(ArrayImages(ids, pixels), targets) for ids, pixels, targets in (pool, test))
    return assemble(name, classes, part, test_part, fingerprint, statistics)
