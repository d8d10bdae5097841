"""Your own torch datasets: two objects that give (image, class index)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped
from PIL import Image
from torch import Tensor

from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.pool.arrays import numbered, targets_of
from mcdal.pool.assemble import Part, assemble, chunks, digest
from mcdal.pool.base import Images, Pool, Positions, Source
from mcdal.pool.loading import load
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
        kinds = [(part.images.picture(0).shape, next(_look(part.images, [0])).dtype) for part in (pool, test)]
        if kinds[0] != kinds[1]:
            raise PoolError(f"{self.name}: images of train are {kinds[0]} but those of test are {kinds[1]}")
        classes = self.classes or getattr(self.train, "classes", None)
        classes = classes or [str(c) for c in range(int(pool.targets.max()) + 1)]
        return assemble(
            self.name,
            [str(c) for c in classes],
            pool,
            test,
            fingerprint=digest(self.name, tuple(map(str, classes)), ids, pool.targets, test.targets, *map(str, kinds)),
        )

    def _part(self, ids: Ids, dataset: Any, targets: Sequence[int] | None, listen: Listener) -> Part:
        if not ids:
            raise PoolError(f"{self.name}: a dataset is empty")
        images = DatasetImages(ids, dataset, self.workers)
        looked_at = np.unique(np.linspace(0, len(ids) - 1, LOOKED_AT).astype(np.int64))
        for id, first, second in zip(
            (ids[i] for i in looked_at), _look(images, looked_at), _look(images, looked_at), strict=True
        ):
            if not torch.equal(first, second):
                raise PoolError(
                    f"{self.name}: {id} is another image each time it is read. The pool is measured as it is: leave "
                    "random augmentation out of the dataset's transform"
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
            found += positions.tolist() if known is not None else [images.target(position) for position in positions]
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
        return class_index(self.ids[position], self._dataset[int(position)])

    def _read(self, positions: Positions) -> Shaped[Tensor, "b h w c"]:
        images = [to_tensor(self.ids[i], self._dataset[int(i)]) for i in positions]
        for i, image in zip(positions, images, strict=True):
            if image.shape != images[0].shape or image.dtype != images[0].dtype:
                raise PoolError(
                    f"images must have one shape and type: {self.ids[positions[0]]} is {_describe(images[0])}, "
                    f"{self.ids[i]} is {_describe(image)}; resize and convert in the dataset's transform"
                )
        return torch.stack(images)


def _look(images: Images, positions: Iterable[int]) -> Iterator[Tensor]:
    """Single images, read in this process."""
    assert isinstance(images, DatasetImages)
    return (images._read(np.array([position])) for position in positions)


def to_tensor(id: str, sample: Any) -> Shaped[Tensor, "h w c"]:
    """The image of a (image, class index) sample; PoolError names the sample and what is wrong with it."""
    image = _pair(id, sample)[0]
    if isinstance(image, Image.Image):
        if image.mode not in ("L", "RGB"):
            raise PoolError(f"{id} is a PIL image of mode {image.mode}; convert it to RGB in the dataset's transform")
        image = np.array(image)
    if isinstance(image, np.ndarray):
        tensor = torch.from_numpy(np.array(image))
        tensor = tensor if tensor.ndim == 3 else tensor[..., None]
    elif isinstance(image, Tensor):
        tensor = image.detach()
        tensor = (tensor if tensor.ndim == 3 else tensor[None]).permute(1, 2, 0)
    else:
        raise PoolError(f"{id} is a {type(image).__name__}; give a PIL image, an array or a tensor")
    if tensor.ndim != 3 or not (tensor.dtype == torch.uint8 or tensor.is_floating_point()):
        raise PoolError(f"{id} is {_describe(tensor)}; give uint8 or normalised floats with one image a sample")
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise PoolError(f"{id} holds NaN or infinity")
    return tensor if tensor.dtype == torch.uint8 else tensor.to(torch.float32)


def class_index(id: str, sample: Any) -> int:
    """The class index of a (image, class index) sample."""
    target = _pair(id, sample)[1]
    if isinstance(target, Tensor | np.ndarray | np.generic) and np.prod(target.shape) == 1:
        target = target.item()
    try:
        index = int(target)
    except (TypeError, ValueError):
        index = -1
    if index != target or index < 0:
        raise PoolError(f"{id} has the label {target!r}; give a class index, 0 or more")
    return index


def _pair(id: str, sample: Any) -> tuple[Any, Any]:
    if not isinstance(sample, tuple | list) or len(sample) < 2:
        raise PoolError(f"{id} is a {type(sample).__name__}; the dataset must give (image, class index)")
    return sample[0], sample[1]


def _describe(image: Tensor) -> str:
    return f"{str(image.dtype).removeprefix('torch.')} {'x'.join(map(str, image.shape))}"


def find_targets(dataset: Any, check: Iterable[int]) -> Int[np.ndarray, " n"] | None:
    """Class indices that the dataset knows without reading images, if they agree with what it gives at `check`."""
    known = _known_targets(dataset)
    if known is None or known.ndim != 1 or len(known) != len(dataset) or not np.issubdtype(known.dtype, np.integer):
        return None
    # A target transform or a wrapper may say otherwise.
    agree = all(class_index(f"sample {i}", dataset[int(i)]) == known[i] for i in check)
    return known.astype(np.int64) if agree else None


def _known_targets(dataset: Any) -> Shaped[np.ndarray, "..."] | None:
    if isinstance(dataset, torch.utils.data.Subset):
        inner = _known_targets(dataset.dataset)
        return None if inner is None else inner[np.asarray(dataset.indices)]
    if isinstance(dataset, torch.utils.data.TensorDataset):
        return dataset.tensors[1].cpu().numpy() if len(dataset.tensors) > 1 else None
    for name in ("targets", "labels"):
        values = getattr(dataset, name, None)
        if values is not None:
            try:
                return values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
            except ValueError:
                return None
    return None
