"""What a label is: loss per sample, metric, and how a score over space becomes one number a sample."""

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor

from mcdal.values import Metrics, Output


class Meter(ABC):
    """Collects a metric over a whole set, one batch after another, without waiting for the device."""

    @abstractmethod
    def add(self, output: Output, y: Int[Tensor, "b ..."]) -> None: ...

    @abstractmethod
    def result(self) -> Metrics:
        """The metrics over all that was added, each between 0 and 1 unless its name says otherwise."""


class Task(ABC):
    """What a label is. Classification has an empty `*space`."""

    classes: tuple[str, ...]

    @abstractmethod
    def losses(self, output: Output, y: Int[Tensor, "b ..."]) -> Float[Tensor, " b"]:
        """One loss a sample."""

    @abstractmethod
    def reduce(self, score: Float[Tensor, "b *space"]) -> Float[Tensor, " b"]:
        """One number a sample from a score at every place."""

    @abstractmethod
    def pooled(self, probabilities: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c"]:
        """Class shares of the whole sample: probabilities averaged over space."""

    @abstractmethod
    def meter(self) -> Meter:
        """A fresh collector of this task's metrics."""
