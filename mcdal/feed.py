"""Batches for training: which images come when, read ahead, augmented on the device."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from mcdal.augment import Augmentation, normalize
from mcdal.device import Numerics, sent
from mcdal.pool.base import LabeledView, Pool, Positions, UnlabeledView
from mcdal.ranks import ALONE, Ranks
from mcdal.streams import numpy_generator, own_randomness, stream
from mcdal.values import Batch, Ids

Raw: TypeAlias = tuple[Ids, Tensor, Tensor | None]  # ids, images as they were read, labels


def endless(n: int, batch_size: int, seed: int, start: int = 0) -> Iterator[Positions]:
    """Batches from permutation after permutation of range(n), from batch number `start` on, without drawing the earlier ones.

    Every index comes equally often whatever n is: a batch may run from one permutation into the next.
    """
    held: dict[int, Positions] = {}
    for batch in range(start, 2**62):
        first = batch * batch_size
        passes, within = np.divmod(np.arange(first, first + batch_size), n)
        held = {p: held[p] if p in held else shuffled(n, seed, p) for p in np.unique(passes).tolist()}
        yield np.concatenate([held[p][within[passes == p]] for p in held])


def shuffled(n: int, seed: int, number: int) -> Positions:
    """The permutation of one pass over the data."""
    return numpy_generator(seed, "pass", number).permutation(n)


@dataclass(frozen=True)
class Feed:
    """Batches of the labeled and the unlabeled samples, for the task model and for the strategy's own networks."""

    pool: Pool
    labeled: LabeledView
    unlabeled: UnlabeledView
    batch_size: int
    """Labeled images a batch."""
    unlabeled_batch_size: int
    augment: Augmentation
    numerics: Numerics
    seed: int
    ranks: Ranks = ALONE
    """The processes that share each batch: this one has its part."""

    def raw(self, labeled: bool, purpose: str, first: int, whole: bool = False) -> Iterator[Raw]:
        """Batches as they were read, endlessly, from batch number `first` of the order of this purpose on.

        whole: not only this process's part of them.
        """
        view: LabeledView | UnlabeledView = self.labeled if labeled else self.unlabeled
        size = self.batch_size if labeled else self.unlabeled_batch_size
        if len(view) == 0:
            return
        seed = stream(self.seed, "order", purpose)
        rows = slice(None) if whole else self.ranks.part(size)
        # Two equal streams of positions: one runs ahead in the workers, one says what has arrived.
        ahead = (view.positions[batch[rows]] for batch in endless(len(view), size, seed, first))
        device = self.numerics.device
        for batch, x in zip(endless(len(view), size, seed, first), view.images.batches(ahead, device), strict=True):
            chosen = batch[rows]
            ids = tuple(map(view.images.ids.__getitem__, view.positions[chosen].tolist()))
            y = sent(torch.from_numpy(view.answers(chosen)), device) if isinstance(view, LabeledView) else None
            yield ids, x, y

    def drawn(self, x: Tensor, whole: bool = False) -> Tensor:
        """How to augment this process's rows x, on the CPU: drawn for the whole batch, so that all draw the same."""
        if whole or self.ranks.size == 1:
            return self.augment.draw(x)
        rows = len(x) * self.ranks.size
        return self.augment.draw(x[:1].expand(rows, *x.shape[1:]))[self.ranks.part(rows)]

    def augmented(self, ids: Ids, x: Tensor, y: Tensor | None, drawn: Tensor) -> Batch:
        """drawn: by `augment.draw`."""
        moved = self.augment.moved(x, drawn)
        if y is not None and y.ndim > 1:
            y = self.augment.moved_masks(y, drawn)
        return Batch(ids, self.numerics.arrange(normalize(moved, self.pool.mean, self.pool.std)), y)

    def own(self, labeled: bool, purpose: str, first: int, whole: bool = False) -> Iterator[Batch]:
        """What `Setting.labeled` and `Setting.unlabeled` promise. Augmented with the random numbers of the hook that asks."""
        raw = self.raw(labeled, f"own {purpose}", first, whole)
        while True:
            with own_randomness():  # starting a loader's workers draws random numbers
                batch = next(raw, None)
            if batch is None:
                return
            yield self.augmented(*batch, self.drawn(batch[1], whole))
