"""The plain values that travel between the parts. Shapes are types: an empty `*space` is classification, `h w` segmentation."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from mcdal.ids import MappedIds, ids_at, places_of
from mcdal.stack import Matrix, taken

Ids: TypeAlias = tuple[str, ...] | MappedIds
"""A tuple, or, for pools of millions, a file that reads like one."""

VOID = 255
"""In a mask: a pixel that belongs to no class, or that nobody has labeled. It counts nowhere."""


@dataclass(frozen=True)
class Output:
    """What a model says of a batch.

    logits: before the softmax. features: what the head was given; for segmentation a map, mostly coarser than the image.
    stages: outputs of inner stages, first to last, for the methods that tap them; may be empty.
    """

    logits: Float[Tensor, "b c *space"]
    features: Float[Tensor, "b d *places"]
    stages: tuple[Float[Tensor, "b _ ..."], ...] = ()

    def detach(self) -> "Output":
        """The same numbers, cut from the graph."""
        return Output(self.logits.detach(), self.features.detach(), tuple(s.detach() for s in self.stages))


@dataclass(frozen=True)
class Batch:
    """Some samples on their way through the model. `y` is None for unlabeled samples: a strategy cannot peek.

    embedding: features of these samples that do not come from the task model: self-supervised ones, or given by the user.
    """

    ids: Ids
    x: Float[Tensor, "b channels h w"]
    y: Shaped[Tensor, "b ..."] | None = None
    output: Output | None = None
    embedding: Float[Tensor, "b e"] | None = None

    def covering_features(self) -> Float[Tensor, "b d"]:
        """What methods that cover the pool compare samples by: the embedding where there is one, else the model's features."""
        if self.embedding is not None:
            return self.embedding
        assert self.output is not None
        features = self.output.features
        return features if features.ndim == 2 else features.flatten(2).mean(2)

    def with_output(self, output: Output) -> "Batch":
        return replace(self, output=output)


@dataclass(frozen=True)
class Measurement:
    """What a strategy measures on a batch: a score (a larger one means "label me first"), a vector, class probabilities.

    Over `*space` the task averages them.
    """

    score: Float[Tensor, "b *space"] | None = None
    vector: Float[Tensor, "b d *places"] | None = None
    probabilities: Float[Tensor, "b c *everywhere"] | None = None


@dataclass(frozen=True)
class Rows:
    """The measured pool, one row a sample, known by its id and never by its position.

    score, vector and probabilities are None where the strategy measures none. vector and
    probabilities may lie on the disk, as mapped files or a `Stack` of them: read them in parts, never as a whole.
    y: class index of the labeled rows, -1 of all others.
    """

    ids: Ids
    labeled: Bool[np.ndarray, " n"]
    score: Float[np.ndarray, " n"] | None = None
    vector: Float[Matrix, "n d"] | None = None
    probabilities: Float[Matrix, "n c"] | None = None
    y: Int[np.ndarray, " n"] | None = None

    def unlabeled(self) -> "Rows":
        """The rows that may still be picked, in the same order."""
        return self.take(self.free())

    def free(self) -> Int[np.ndarray, " m"]:
        """Positions of the rows that may still be picked."""
        return np.flatnonzero(~self.labeled)

    def without(self, ids: Collection[str]) -> "Rows":
        """All rows but these."""
        kept = np.ones(len(self.ids), dtype=bool)
        kept[places_of(self.ids, ids)] = False
        return self if kept.all() else self.take(np.flatnonzero(kept))

    def take(self, positions: Int[np.ndarray, " m"]) -> "Rows":
        """These rows alone, in this order. Copies what is in memory; what lies on the disk stays there."""
        score, y = (None if column is None else column[positions] for column in (self.score, self.y))
        vector, p = (None if table is None else taken(table, positions) for table in (self.vector, self.probabilities))
        return Rows(ids_at(self.ids, positions), self.labeled[positions], score, vector, p, y)


@dataclass(frozen=True)
class Picks:
    """What to label next, most wanted first. `score` is why, one number a pick.

    places: where the picks stand in the rows they were chosen from, where that is known; a hint that saves a search, never
    believed. searched: how the batch was searched for, and with what numbers (`mcdal.selection.search`); empty where nobody said.
    """

    ids: Ids
    score: Float[np.ndarray, " b"]
    places: Int[np.ndarray, " b"] | None = field(default=None, repr=False, compare=False)
    searched: Mapping[str, str | int] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Label:
    """One answer of an oracle: who said what of which sample, and when (UTC). value: a class index, or a mask with VOID."""

    sample_id: str
    value: int | UInt8[np.ndarray, "h w"]
    by: str
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Progress:
    """Where training stands: optimizer step `step` of `steps` (from 0), with the learning rate of this step.

    lr: a tensor on the device where a step may be replayed; `set_rate` takes either.
    """

    step: int
    steps: int
    lr: float | Tensor

    @property
    def fraction(self) -> float:
        """Share of the training done before this step, 0 to 1."""
        return self.step / self.steps


Metrics: TypeAlias = Mapping[str, float]
