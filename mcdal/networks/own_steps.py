"""What strategies with networks of their own do beside a step of the task model: more batches than it gets, and a descent."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from mcdal.values import Batch

Batches: TypeAlias = Callable[..., Iterator[Batch]]
"""`Setting.labeled` or `Setting.unlabeled`."""
Pair: TypeAlias = tuple[Batch, Batch]


class Pairs:
    """`count` pairs of a labeled and an unlabeled batch for each step of the task model: its own two, then new ones.

    labeled, unlabeled: `Setting.labeled` and `Setting.unlabeled`. A continued training goes on in the same orders.
    """

    def __init__(self, labeled: Batches, unlabeled: Batches, purpose: str, count: int):
        self._sources, self._purpose, self._more = (labeled, unlabeled), purpose, count - 1
        self._orders: Iterator[Pair] | None = None

    def of(self, labeled: Batch, unlabeled: Batch, step: int) -> Iterator[Pair]:
        """The pairs of this step."""
        yield labeled, unlabeled
        if self._orders is None and self._more:
            first = step * self._more
            one, two = (source(self._purpose, first) for source in self._sources)
            self._orders = zip(one, two, strict=False)  # both are endless
        for _ in range(self._more):
            assert self._orders is not None
            yield next(self._orders)


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down. The backward pass runs without autocast, as the task model's does."""
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(loss.device.type, enabled=False):
        torch.autograd.backward(loss)
    optimizer.step()
