"""The plain values that travel between the parts. Shapes are types: an empty `*space` is classification, `h w` segmentation."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

Ids: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Output:
    """What a model says of a batch.

    logits: before the softmax. features: what the head was given. stages: outputs of inner stages, first to last, for the
    methods that tap them; may be empty.
    """

    logits: Float[Tensor, "b c *space"]
    features: Float[Tensor, "b d *space"]
    stages: tuple[Float[Tensor, "b _ ..."], ...] = ()

    def detach(self) -> "Output":
        """The same numbers, cut from the graph."""
        return Output(self.logits.detach(), self.features.detach(), tuple(s.detach() for s in self.stages))


@dataclass(frozen=True)
class Batch:
    """Some samples on their way through the model. `y` is None for unlabeled samples: a strategy cannot peek."""

    ids: Ids
    x: Float[Tensor, "b channels h w"]
    y: Shaped[Tensor, "b ..."] | None = None
    output: Output | None = None

    def with_output(self, output: Output) -> "Batch":
        return replace(self, output=output)


@dataclass(frozen=True)
class Measurement:
    """What a strategy measures on a batch: a score (a larger one means "label me first"), a vector, or both."""

    score: Float[Tensor, "b *space"] | None = None
    vector: Float[Tensor, "b d"] | None = None


@dataclass(frozen=True)
class Rows:
    """The measured pool, one row a sample, known by its id and never by its position.

    score and vector are None where the strategy measures none.
    """

    ids: Ids
    labeled: Bool[np.ndarray, " n"]
    score: Float[np.ndarray, " n"] | None = None
    vector: Float[np.ndarray, "n d"] | None = None

    def unlabeled(self) -> "Rows":
        """The rows that may still be picked, in the same order."""
        keep = np.flatnonzero(~self.labeled)
        return Rows(
            tuple(self.ids[i] for i in keep),
            self.labeled[keep],
            None if self.score is None else self.score[keep],
            None if self.vector is None else self.vector[keep],
        )


@dataclass(frozen=True)
class Picks:
    """What to label next, most wanted first. `score` is why, one number a pick."""

    ids: Ids
    score: Float[np.ndarray, " b"]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Label:
    """One answer of an oracle: who said what of which sample, and when (UTC)."""

    sample_id: str
    value: int
    by: str
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Progress:
    """Where training stands: optimizer step `step` of `steps` (from 0), with the learning rate of this step."""

    step: int
    steps: int
    lr: float

    @property
    def fraction(self) -> float:
        """Share of the training done before this step, 0 to 1."""
        return self.step / self.steps


Metrics: TypeAlias = Mapping[str, float]
