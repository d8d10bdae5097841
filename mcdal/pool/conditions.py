"""A replayed data set made as hard as a real one: classes of unequal size, images that repeat, answers that are wrong."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int, Shaped, UInt8
from torch import Tensor

from mcdal.errors import ConfigError
from mcdal.pool.base import Images, Pool, Positions
from mcdal.streams import numpy_generator
from mcdal.values import Ids


@dataclass(frozen=True)
class Conditions:
    """Changes to the pool, never to the test images. The same for every strategy and seed of a run; `seed` draws others."""

    imbalance: float = 1.0
    """The pool is thinned to a long tail: so many times as many images of the first class as of the last. 1: as it is."""
    copies: int = 1
    """How often each image is in the pool; copies have ids of their own (ID#2, ID#3)."""
    noise: float = 0.0
    """Share of the images that the oracle gives a wrong class."""
    confusion: Literal["pair", "uniform"] = "pair"
    """Which wrong class: pair takes the next one (the last class's is the first), uniform any other."""
    seed: int = 0
    """Draws which images are kept, and which answers are wrong."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.imbalance) and self.imbalance >= 1):
            raise ConfigError(
                f"conditions.imbalance = {self.imbalance}: give 1, or how many times larger the first class is"
            )
        if self.copies < 1:
            raise ConfigError(f"conditions.copies = {self.copies}: give 1, or how often each image is to be there")
        if not 0 <= self.noise < 1:
            raise ConfigError(f"conditions.noise = {self.noise}: give a share of at least 0 and below 1")

    @property
    def change(self) -> bool:
        return self.imbalance > 1 or self.copies > 1 or self.noise > 0

    def applied(self, pool: Pool) -> Pool:
        """The pool under these conditions: first thinned, then copied, then answered wrongly.

        Copies of an image are answered alike. ConfigError where labels are masks, or unknown, and would have to be changed.
        """
        if not self.change:
            return pool
        if self.imbalance > 1 or self.noise > 0:
            what = "conditions.imbalance" if self.imbalance > 1 else "conditions.noise"
            if pool.masks is not None:
                raise ConfigError(
                    f"{what}: {pool.name} is labeled by masks, which have no class; only copies can be set"
                )
            if pool.targets is None:
                raise ConfigError(f"{what}: nobody knows the classes of {pool.name}")
        kept = np.arange(len(pool)) if self.imbalance == 1 else self._thinned(pool)
        targets = pool.targets if pool.targets is None else pool.targets[kept]
        said = targets if targets is None or self.noise == 0 else self._answers(targets, len(pool.classes))
        originals = tuple(pool.images.ids[i] for i in kept)
        ids = originals + tuple(f"{id}#{copy}" for copy in range(2, self.copies + 1) for id in originals)
        at = np.tile(kept, self.copies)
        values = f"imbalance {self.imbalance:g}, copies {self.copies}, noise {self.noise:g} {self.confusion}, seed {self.seed}"
        return replace(
            pool,
            images=Chosen(pool.images, at, ids, originals * self.copies),
            targets=None if said is None else np.tile(said, self.copies),
            groups=None if pool.groups is None else tuple(pool.groups[i] for i in at),
            fingerprint=f"{pool.fingerprint}; {values}",
            notes=(*pool.notes, *self._notes(len(pool), len(kept), targets)),
            sharded=None,
        )

    def _thinned(self, pool: Pool) -> Positions:
        """n_c = n imbalance^(-c / (C - 1)) images of class c (Cui et al. 2019), n those of the smallest class of the pool."""
        assert pool.targets is not None
        classes = len(pool.classes)
        sizes = np.bincount(pool.targets, minlength=classes)
        smallest = int(sizes.min())
        if smallest < self.imbalance:
            few = pool.classes[int(sizes.argmin())]
            raise ConfigError(
                f"conditions.imbalance = {self.imbalance:g}: {pool.name} has {smallest} images of {few}, too few for a tail of "
                "that length: lower it"
            )
        kept = []
        for c in range(classes):
            of_class = np.flatnonzero(pool.targets == c)
            count = round(smallest * self.imbalance ** (-c / (classes - 1)))
            kept.append(numpy_generator(self.seed, "imbalance", c).permutation(of_class)[:count])
        return np.sort(np.concatenate(kept))

    def _answers(self, targets: Int[np.ndarray, " n"], classes: int) -> Int[np.ndarray, " n"]:
        """Class indices as the oracle says them: of each class the same share is wrong, rounded."""
        said = targets.copy()
        for c in range(classes):
            of_class = np.flatnonzero(targets == c)
            random = numpy_generator(self.seed, "noise", c)
            wrong = random.permutation(of_class)[: round(self.noise * len(of_class))]
            off = 1 if self.confusion == "pair" else random.integers(1, classes, len(wrong))
            said[wrong] = (c + off) % classes
        return said

    def _notes(self, before: int, kept: int, targets: Int[np.ndarray, " n"] | None) -> list[str]:
        said = []
        if self.imbalance > 1 and targets is not None:
            sizes = np.bincount(targets)
            said.append(
                f"long tail: {sizes[0]:,} images of the first class, {sizes[-1]:,} of the last; {kept:,} of {before:,}"
            )
        if self.copies > 1:
            said.append(f"each image is {self.copies} times in the pool")
        if self.noise > 0:
            which = "the next class" if self.confusion == "pair" else "any other class"
            said.append(f"{100 * self.noise:g} % of the answers are wrong: {which}")
        return said


class Chosen(Images):
    """Some images of another object, in another order or several times, under ids of their own."""

    def __init__(self, images: Images, at: Positions, ids: Ids, originals: Ids):
        self.ids = ids
        self._images, self._at, self._originals = images, at, originals

    @property
    def originals(self) -> Ids:
        return self._originals

    def batches(self, positions: Iterable[Positions], device: torch.device) -> Iterator[Shaped[Tensor, "b c h w"]]:
        return self._images.batches((self._at[chosen] for chosen in positions), device)

    def read(self, position: int) -> Shaped[Tensor, "h w c"]:
        return self._images.read(int(self._at[position]))

    def picture(self, position: int) -> UInt8[np.ndarray, "h w c"]:
        return self._images.picture(int(self._at[position]))  # features show the image that they are of
