"""What is mixed into a batch beside the strategy's picks: images of classes that were added, and easy ones."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch.nn import functional as F

from mcdal.checked import at_least
from mcdal.selection import uniforms
from mcdal.strategies.base import Strategy
from mcdal.values import Batch, Measurement, Picks, Rows


@dataclass(frozen=True)
class Easy(Strategy):
    """Images that the model is sure of, drawn by lot among the surest: who sees the hardest ones alone tires, and errs."""

    among: int = 10
    """So many times as many as are picked are drawn from: the very surest all look the same."""

    def __post_init__(self) -> None:
        at_least(self, "easy", 1, "among")

    def measure(self, batch: Batch) -> Measurement:
        """The largest class probability."""
        assert batch.output is not None
        return Measurement(score=batch.output.logits.softmax(1).amax(1))

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        assert rows.score is not None
        free = rows.free()
        surest = free[np.argsort(-rows.score[free], kind="stable")[: self.among * budget]]
        lot = uniforms(seed, [rows.ids[i] for i in surest])
        chosen = surest[np.argsort(lot, kind="stable")[:budget]]
        return Picks(tuple(rows.ids[i] for i in chosen), rows.score[chosen].astype(np.float64))


@dataclass(frozen=True)
class Newcomers(Strategy):
    """Images that are likely of a class that was added while people work and has few labels still; none where there is no such.

    As soon as one image of the class has a label, those that are more like it than like any other labeled one; before, those
    that are least like all that is labeled. By the cosine of the model's features.
    """

    first: int = 2
    """Number of the first class that was added later."""
    enough: int = 10
    """Labels from which a class is no newcomer any more."""

    def measure(self, batch: Batch) -> Measurement:
        """The model's features, at length 1, and class probabilities: only by them it is known how many classes there are."""
        assert batch.output is not None
        features = F.normalize(batch.covering_features().float(), dim=1)
        return Measurement(vector=features, probabilities=batch.output.logits.softmax(1))

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        """At most `budget`; most likely first."""
        assert rows.vector is not None and rows.y is not None and rows.probabilities is not None
        free, classes = rows.free(), rows.y[rows.labeled & (rows.y >= 0)]
        counts = np.bincount(classes, minlength=rows.probabilities.shape[1])
        new = [c for c in range(self.first, len(counts)) if counts[c] < self.enough]
        if not new or not len(free) or not len(classes):
            return Picks((), np.zeros(0))
        known = rows.labeled & (rows.y >= 0)
        ours = known & np.isin(rows.y, new)
        others = _nearest(rows, free, known & ~ours)
        likely = _nearest(rows, free, ours) - others if ours.any() else -others
        best = np.argsort(-likely, kind="stable")[:budget]
        return Picks(tuple(rows.ids[free[i]] for i in best), likely[best].astype(np.float64))


def _nearest(rows: Rows, free: np.ndarray, among: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
    """Of each free row the largest cosine to a row of these; -1 where there is none."""
    assert rows.vector is not None
    if not among.any():
        return np.full(len(free), -1.0, dtype=np.float32)
    centres = np.asarray(rows.vector[among])
    found = np.empty(len(free), dtype=np.float32)
    for i in range(0, len(free), 4_096):
        found[i : i + 4_096] = (rows.vector[free[i : i + 4_096]] @ centres.T).max(1)
    return found
