"""A pool: every image by a stable string id, and views of it that know (or do not know) a label."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Int, Shaped, UInt8
from torch import Tensor

from mcdal.device import sent
from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.ids import MappedIds
from mcdal.pool.masks import Masks
from mcdal.pool.places import Places
from mcdal.pool.sharded import Sharded
from mcdal.pool.truth import Truth
from mcdal.tasks.base import Task, TaskName
from mcdal.tasks.classification import Classification
from mcdal.values import Ids

Positions = Int[np.ndarray, " _"]


class Images(ABC):
    """Images by stable id, all of one shape. `positions` is this object's own order; it never leaves the pool."""

    ids: Ids

    @property
    def originals(self) -> Ids:
        """The ids by which files know these images: of copies, that of the original."""
        return self.ids

    @property
    def quarantined(self) -> tuple["Quarantined", ...]:
        """What has turned out to be unusable while it was read; its images are black."""
        return ()

    @abstractmethod
    def batches(self, positions: Iterable[Positions], device: torch.device) -> Iterator[Shaped[Tensor, "b c h w"]]:
        """One tensor for each array of positions, in their order, on `device`. Training asks endlessly: read as you go.

        uint8 0 to 255 for raw pixels; a float tensor is taken as already normalised. Memory is channels-last where the
        source allows it.
        """

    def read(self, position: int) -> Shaped[Tensor, "h w c"]:
        """One image as it is, on the CPU. A source whose batches come from workers reads it in this process."""
        batch = next(iter(self.batches([np.array([position], dtype=np.int64)], torch.device("cpu"))))
        return batch[0].permute(1, 2, 0)

    def picture(self, position: int) -> UInt8[np.ndarray, "h w c"]:
        """One image to show to a person. Normalised floats are stretched from their smallest to their largest value."""
        return to_picture(self.read(position).numpy().copy())  # a batch may lie in the pool's own memory

    def __len__(self) -> int:
        return len(self.ids)


def to_picture(pixels: Shaped[np.ndarray, "h w _"]) -> UInt8[np.ndarray, "h w c"]:
    """Bytes as they are; floats from their smallest (0) to their largest value (255). Of 2 channels or more than 3, the mean."""
    if pixels.shape[2] not in (1, 3):
        pixels = pixels.mean(axis=2, keepdims=True).astype(pixels.dtype)
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    low, high = float(pixels.min()), float(pixels.max())
    return np.rint((pixels - low) / max(high - low, 1e-12) * 255).astype(np.uint8)


class ArrayImages(Images):
    """Images in one array, in memory or memory-mapped.

    pixels: (n, h, w, c), uint8 or normalised float32. Kept on the accelerator where it fits into `resident_bytes`, so
    that no batch travels.
    """

    def __init__(self, ids: Ids, pixels: Shaped[np.ndarray, "n h w c"], resident_bytes: int = 4 << 30):
        if len(ids) != len(pixels):
            raise PoolError(f"{len(ids)} ids for {len(pixels)} images: give one id an image")
        self.ids = ids
        self.pixels = pixels
        self._resident_bytes = resident_bytes
        self._resident: Tensor | None = None

    def batches(self, positions: Iterable[Positions], device: torch.device) -> Iterator[Shaped[Tensor, "b c h w"]]:
        if device.type == "cuda" and self.pixels.nbytes <= self._resident_bytes:
            if self._resident is None or self._resident.device != device:
                self._resident = torch.from_numpy(np.ascontiguousarray(self.pixels)).to(device)
            for chosen in positions:
                yield self._resident[sent(torch.from_numpy(chosen), device)].permute(0, 3, 1, 2)
        else:
            for chosen in positions:
                yield sent(torch.from_numpy(self._read(chosen)), device).permute(0, 3, 1, 2)

    def _read(self, chosen: Positions) -> Shaped[np.ndarray, "b h w c"]:
        """A copy, but for bytes in their own order: those lie in the pool already, and normalising copies them anyway."""
        first, length = (int(chosen[0]), len(chosen)) if len(chosen) else (0, 0)
        together = self.pixels.dtype == np.uint8 and self.pixels.flags.writeable and (np.diff(chosen) == 1).all()
        pixels: np.ndarray = self.pixels[first : first + length] if together else self.pixels[chosen]
        return pixels


@dataclass(frozen=True)
class LabeledView:
    """Images with their labels of today. `y[i]` belongs to `positions[i]`: a class index, or the number of a mask."""

    images: Images
    positions: Positions
    y: Int[np.ndarray, " n"]
    masks: Masks | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def answers(self, chosen: Positions | slice) -> Int[np.ndarray, " b"] | UInt8[np.ndarray, "b h w"]:
        """What was said of these: class indices, or masks, which are read now."""
        return self.y[chosen] if self.masks is None else self.masks[self.y[chosen]]


@dataclass(frozen=True)
class UnlabeledView:
    """Images without a label: there is no `y` to peek at."""

    images: Images
    positions: Positions

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class Quarantined:
    """An image that was set aside, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Pool:
    """All images that may be labeled, the test images, and what is needed to read them.

    targets: true class indices for the simulated oracle, None if nobody knows them. mean, std: per channel, of pixels
    scaled to 0..1. fingerprint: changes when the data do, so that a run never continues on other images.
    kind: what a label is, where it is not one class. A label is then the number of a mask in `masks`, and so are `targets`.
    groups: for each image what it is near to (a sequence, a camera), so that a batch need not be all of one.
    sharded: the same images (those of `images`, in the same order) in parts that are read one after the other, where they lie so.
    """

    name: str
    classes: tuple[str, ...]
    images: Images
    targets: Int[np.ndarray, " n"] | None
    test: LabeledView
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    quarantine: tuple[Quarantined, ...] = ()
    notes: tuple[str, ...] = ()
    kind: Task | None = None
    masks: Masks | None = None
    groups: tuple[str, ...] | None = None
    sharded: Sharded | None = None
    _places: Places = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", Places(self.images.ids))
        if len(self._places) != len(self.images.ids):
            seen: set[str] = set()
            twice = next(id for id in self.images.ids if id in seen or seen.add(id))  # type: ignore[func-returns-value]
            raise PoolError(f"pool {self.name!r}: the id {twice!r} stands for two images; ids must be unique")
        if len(self.classes) < 2:
            raise PoolError(f"pool {self.name!r}: {len(self.classes)} class found; two are the least to classify")
        if self.groups is not None and len(self.groups) != len(self.images):
            raise PoolError(
                f"pool {self.name!r}: {len(self.groups)} groups for {len(self.images)} images: give one an image"
            )
        if self.sharded is not None and (here := sum(s.size for s in self.sharded.shards)) != len(self.images):
            raise PoolError(
                f"pool {self.name!r}: {here} images in shards, and {len(self.images)} in all: they must be the same"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def task(self) -> Task:
        """What a label of this pool is."""
        return self.kind or Classification(self.classes)

    @property
    def shape(self) -> tuple[int, tuple[int, int]]:
        """Channels, and height and width in pixels, of every image."""
        height, width, channels = self.images.read(0).shape
        return channels, (height, width)

    def labeled(self, labels: Mapping[str, int]) -> LabeledView:
        """The samples in `labels` with the classes given there, in pool order."""
        return self.split(labels)[0]

    def unlabeled(self, labels: Mapping[str, int]) -> UnlabeledView:
        """Everything that is not in `labels`, in pool order."""
        return self.split(labels)[1]

    def split(self, labels: Mapping[str, int]) -> tuple[LabeledView, UnlabeledView]:
        """`labeled` and `unlabeled`, looked up once."""
        positions = self._places.of(labels)
        if (positions < 0).any():
            raise self._unknown(next(id for id, place in zip(labels, positions.tolist(), strict=True) if place < 0))
        y, labeled = self._spread(labels, positions)
        chosen = np.flatnonzero(labeled)
        labels_now = LabeledView(self.images, chosen, y[chosen], self.masks)
        return labels_now, UnlabeledView(self.images, np.flatnonzero(~labeled))

    def known(self, labels: Mapping[str, int]) -> Int[np.ndarray, " n"]:
        """The class of every sample, -1 of those that are not in `labels`, in pool order.

        Labels of other samples are passed over: a shard of a pool is measured with the labels of all.
        """
        return self._spread(labels, self._places.of(labels))[0]

    def _spread(self, labels: Mapping[str, int], positions: Positions) -> tuple[Int[np.ndarray, " n"], np.ndarray]:
        """Over the whole pool: the class, -1 where there is none, and whether there is one."""
        here, given = positions >= 0, np.fromiter(labels.values(), dtype=np.int64, count=len(labels))
        y, labeled = np.full(len(self), -1), np.zeros(len(self), dtype=bool)
        y[positions[here]] = given[here]
        labeled[positions[here]] = True
        return y, labeled

    def whole(self) -> UnlabeledView:
        """Every sample, labeled or not, without labels: what is measured."""
        return UnlabeledView(self.images, np.arange(len(self)))

    def position(self, id: str) -> int:
        """Where `id` stands in `images`; an error names an id that the pool does not have."""
        try:
            return self._places[id]
        except (KeyError, ValueError):
            raise self._unknown(id) from None

    def has(self, ids: Collection[str]) -> set[str]:
        """Those of these ids that the pool has."""
        return self._places.has(ids)

    def _unknown(self, id: str) -> PoolError:
        return PoolError(f"pool {self.name!r} has no sample {id!r}: the data may have changed since")

    def shows(self, labels: Mapping[str, int]) -> Int[np.ndarray, " c"]:
        """How many of these labels are of each class, or show it somewhere."""
        if self.masks is not None:
            shown: Int[np.ndarray, " c"] = (self.amounts(labels) > 0).sum(0)
            return shown
        values = np.fromiter(labels.values(), dtype=np.int64, count=len(labels))
        return np.bincount(values, minlength=len(self.classes))

    def amounts(self, labels: Mapping[str, int]) -> Int[np.ndarray, "n c"]:
        """How many pixels of each class each label shows; 1 of its class where it is no mask."""
        counts = np.zeros((len(labels), len(self.classes)), dtype=np.int64)
        for i, value in enumerate(labels.values()):
            if self.masks is None:
                counts[i, value] = 1
            else:
                counts[i] = self.masks.pixels(value)[: len(self.classes)]
        return counts

    def truth(self) -> Mapping[str, int]:
        """True class index by id, or the number of the true mask, for an oracle that plays the annotator."""
        if self.targets is None:
            raise PoolError(f"pool {self.name!r} has no true labels: a person or a tool has to give them")
        if isinstance(self.images.ids, MappedIds):
            return Truth(self.images.ids, self.targets)
        return dict(zip(self.images.ids, self.targets.tolist(), strict=True))


class Source(ABC):
    """Where a pool comes from: a dataclass whose fields are what a recipe may change (`--set source.FIELD=`)."""

    task: ClassVar[TaskName] = "classification"
    """What its labels are."""
    grows: ClassVar[bool] = False
    """Whether images and classes may be added while a run goes on: it then continues with what there is."""

    @abstractmethod
    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        """Read and check everything now, so that no image surprises round 4. `cache`: a folder for decoded images."""
