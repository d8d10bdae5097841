"""What a label is: loss per sample, metric, and how a score over space becomes one number a sample."""

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from mcdal.values import Metrics, Output

TaskName: TypeAlias = Literal["classification", "segmentation"]


class Meter(ABC):
    """Collects a metric over a whole set, one batch after another, without waiting for the device."""

    @abstractmethod
    def add(self, output: Output, y: Shaped[Tensor, "b ..."]) -> None: ...

    @abstractmethod
    def result(self) -> Metrics:
        """The metrics over all that was added, each between 0 and 1 unless its name says otherwise."""


class Task(ABC):
    """What a label is. Classification has an empty `*space`."""

    name: ClassVar[TaskName]
    classes: tuple[str, ...]
    weights: tuple[float, ...] | None = None
    """How much each class counts in the loss; None: all the same."""
    headline: ClassVar[str]
    """The metric that curves are drawn of."""
    colours: tuple[tuple[int, int, int], ...] | None = None
    """How each class is shown to people, red, green and blue, 0 to 255; None: as the report chooses."""

    @abstractmethod
    def fault(self, answer: int | UInt8[np.ndarray, "h w"], size: tuple[int, int]) -> str | None:
        """What is wrong with somebody's answer for an image of this height and width, in words; None if nothing is."""

    @abstractmethod
    def losses(self, logits: Float[Tensor, "b c *space"], y: Shaped[Tensor, "b ..."]) -> Float[Tensor, " b"]:
        """One loss a sample."""

    @abstractmethod
    def losses_of_whole(self, logits: Float[Tensor, "b c"], y: Shaped[Tensor, "b ..."]) -> Float[Tensor, " b"]:
        """One loss a sample of somebody who says one thing of the whole of it."""

    @abstractmethod
    def right(self, logits: Float[Tensor, "b c *space"], y: Shaped[Tensor, "b ..."]) -> Float[Tensor, ""]:
        """Share of right answers in a batch, to watch a training by."""

    @abstractmethod
    def reduce(self, score: Float[Tensor, "b *space"]) -> Float[Tensor, " b"]:
        """One number a sample from a score at every place."""

    @abstractmethod
    def pooled(self, values: Float[Tensor, "b d *space"]) -> Float[Tensor, "b d"]:
        """Those of the whole sample: class probabilities or features averaged over space."""

    @abstractmethod
    def weighing(self, weights: tuple[float, ...]) -> "Task":
        """The same task with these weights of the classes."""

    @abstractmethod
    def meter(self) -> Meter:
        """A fresh collector of this task's metrics."""

    def _weights(self, like: Tensor) -> Float[Tensor, " c"] | None:
        return None if self.weights is None else _constant(self.weights, like.dtype, like.device)


@lru_cache(maxsize=16)
def _constant(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Kept so that no step waits for a copy to the device."""
    return torch.tensor(numbers, dtype=dtype, device=device)
