"""Your own torch datasets: two objects that give (image, class index)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.pool.arrays import numbered, targets_of
from mcdal.pool.assemble import Part, assemble, chunks, digest
from mcdal.pool.base import Images, Pool, Positions, Source
from mcdal.pool.loading import load
from mcdal.pool.samples import class_index, describe, find_targets, to_tensor
from mcdal.values import Ids

LOOKED_AT = 16
"""Samples, evenly spaced, that are read twice at opening; `check_all` reads every one."""


@dataclass(frozen=True, eq=False)
class Datasets(Source):
    """Your own datasets. Images: PIL images, uint8 tensors (c, h, w), arrays (h, w, c) or normalised float tensors."""

    train: Any
    """Dataset of the pool: `len(train)` and `train[i]` giving (image, class index), the same at every call."""
    test: Any
    """Dataset of the test images."""
    classes: Sequence[str] | None = None
    """Class names; without them `train.classes`, or the indices."""
    ids: Sequence[str] | None = None
    """Stable id of each image of `train`; without them the place in it, such as `train/00017`."""
    targets: Sequence[int] | None = None
    """Class index of each image of `train`; without them they are looked for in the dataset, or read one by one."""
    name: str = "datasets"
    """What the pool is called in reports."""
    workers: int = 0
    """Processes that read ahead (0: none)."""
    check_all: bool = False
    """Read every image when the pool is opened, instead of a few."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        ids = tuple(self.ids) if self.ids is not None else numbered("train", len(self.train))
        if len(ids) != len(self.train):
            raise PoolError(f"{self.name}: {len(ids)} ids for {len(self.train)} images: give one id an image")
        pool = self._part(ids, self.train, self.targets, listen)
        test = self._part(numbered("test", len(self.test)), self.test, None, listen)
        kinds = [describe(to_tensor(id, dataset[0])) for id, dataset in (("train", self.train), ("test", self.test))]
        if kinds[0] != kinds[1]:
            raise PoolError(f"{self.name}: images of train are {kinds[0]} but those of test are {kinds[1]}")
        classes = self.classes or getattr(self.train, "classes", None)
        classes = classes or [str(c) for c in range(int(pool.targets.max()) + 1)]
        return assemble(
            self.name,
            [str(c) for c in classes],
            pool,
            test,
            fingerprint=digest(
                self.name,
                tuple(map(str, classes)),
                ids,
                pool.targets,
                test.targets,
                *kinds,
                *(sampled(part.images) for part in (pool, test)),
            ),
        )

    def _part(self, ids: Ids, dataset: Any, targets: Sequence[int] | None, listen: Listener) -> Part:
        if not ids:
            raise PoolError(f"{self.name}: a dataset is empty")
        images = DatasetImages(ids, dataset, self.workers)
        looked_at = _looked_at(len(ids))
        for position in looked_at:
            if not torch.equal(images.read(position), images.read(position)):
                raise PoolError(
                    f"{self.name}: {ids[position]} is another image each time it is read. The pool is measured as it "
                    "is: leave random augmentation out of the dataset's transform"
                )
        y = targets_of("targets", targets) if targets is not None else find_targets(dataset, looked_at)
        if y is None or self.check_all:
            y = self._read_all(images, y, listen)
        if len(y) != len(ids):
            raise PoolError(f"{self.name}: {len(y)} targets for {len(ids)} images: give one an image")
        return Part(images, y)

    def _read_all(
        self, images: "DatasetImages", known: Int[np.ndarray, " n"] | None, listen: Listener
    ) -> Int[np.ndarray, " n"]:
        """Class indices of all samples; every image is checked on the way if `check_all`."""
        found: list[int] = []
        for positions in chunks(np.arange(len(images)), 256):
            listen("prepare", done=len(found), total=len(images), what=f"reading {self.name}")
            if self.check_all:
                next(images.batches([positions], torch.device("cpu")))
            found += (
                positions.tolist() if known is not None else [images.target(int(position)) for position in positions]
            )
        return known if known is not None else np.array(found, dtype=np.int64)


class DatasetImages(Images):
    """Images of a dataset, read when they are needed."""

    def __init__(self, ids: Ids, dataset: Any, workers: int = 0):
        self.ids = ids
        self._dataset = dataset
        self._workers = workers

    def batches(self, positions: Iterable[Positions], device: torch.device) -> Iterator[Shaped[Tensor, "b c h w"]]:
        return load(self._read, positions, self._workers, device)

    def target(self, position: int) -> int:
        """The class index that the dataset gives with an image."""
        return class_index(self.ids[position], self._sample(position))

    def read(self, position: int) -> Shaped[Tensor, "h w c"]:
        return to_tensor(self.ids[position], self._sample(position))

    def _sample(self, position: int) -> Any:
        try:
            return self._dataset[position]
        except Exception as error:  # somebody else's code
            kind = type(error).__name__
            raise PoolError(f"{self.ids[position]} cannot be read from the dataset: {kind}: {error}") from error

    def _read(self, positions: Positions) -> Shaped[Tensor, "b h w c"]:
        images = [self.read(int(i)) for i in positions]
        for i, image in zip(positions, images, strict=True):
            if image.shape != images[0].shape or image.dtype != images[0].dtype:
                raise PoolError(
                    f"images must have one shape and type: {self.ids[positions[0]]} is {describe(images[0])}, "
                    f"{self.ids[i]} is {describe(image)}; resize and convert in the dataset's transform"
                )
        return torch.stack(images)


def _looked_at(n: int) -> list[int]:
    """Evenly spaced positions that stand for all: reading every image at every opening would take too long."""
    found: list[int] = np.unique(np.linspace(0, n - 1, LOOKED_AT).astype(np.int64)).tolist()
    return found


def sampled(images: Images) -> str:
    """A digest of the images that are looked at: other images under the same ids are then other data."""
    positions = np.array(_looked_at(len(images)), dtype=np.int64)
    batch = next(iter(images.batches([positions], torch.device("cpu"))))
    return digest(batch.numpy())
