"""BAIT: label the batch that leaves least unknown of the last layer's weights (Fisher information); small heads only."""

from dataclasses import dataclass

import numpy as np
import torch

from mcdal.checked import above_zero, at_least
from mcdal.errors import ConfigError, SelectionError
from mcdal.selection import fisher
from mcdal.selection.checks import refuse_bad_rows
from mcdal.selection.clusters import COPIED, by_id
from mcdal.selection.demand import Demand, Size
from mcdal.strategies.base import About, Strategy
from mcdal.values import Batch, Measurement, Picks, Rows

ALL_CLASSES = 10


@dataclass
class BAIT(Strategy):
    """Ash et al. 2021, on the weights of the last layer (C x d, no bias). With V_x = [sqrt(p_y) g_y] over the classes y, where
    g_y = (onehot(y) - p) (x) z is the gradient if y were the label, I(x) = V_x V_x' is the Fisher information of a row, and

        min over batches S of the budget    tr(M^-1 F)      M = lambda 1 + sum_{labeled and S} I(x),  F = mean over all of I(x).

    Greedily twice the budget (or all), then the rows that are missed least are taken out again until the budget is left.
    `score`: by how much a pick lowered the trace when it came.
    """

    about = About(
        paper="Ash et al. 2021, *Gone Fishing: Neural Active Learning with Fisher Embeddings*",
        needs=("probabilities", "features"),
        cost="O(N (C d)^2) once and O(b (N C d k + (C d)^2 k)) for 3 b changes, k classes: minutes to an hour on a CPU",
        memory="6 matrices of (C d)^2 and N (2 k^2 + C k) numbers in float64: 1.4 GB at C d = 5,120",
        use="small heads: few classes or few features, and budgets of up to some hundreds",
        avoid="C d above `largest`, which is refused: BADGE is its cheap relative",
    )

    regularization: float = 1.0
    """lambda: what is known of each weight before any label."""
    likely: int | None = None
    """k, most likely classes that the mean over y takes, scaled to sum to 1; null: all up to 10 classes, 2 beyond."""
    largest: int = 6_000
    """Largest C x d: classes times features. Matrices of its square are kept."""

    def __post_init__(self) -> None:
        above_zero(self, "strategy", "regularization")
        if self.likely is not None and self.likely < 1:
            raise ConfigError(f"strategy.likely = {self.likely}: give at least 1, or null")
        at_least(self, "strategy", 1, "largest")

    def measure(self, batch: Batch) -> Measurement:
        assert batch.output is not None
        features, logits = batch.output.features, batch.output.logits
        self._refuse_large(logits.shape[1], features.shape[1])  # before the pass over the pool, not after it
        return Measurement(vector=features, probabilities=logits.softmax(1))

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        assert rows.vector is not None and rows.probabilities is not None
        refuse_bad_rows(rows)
        (n, c), d = rows.probabilities.shape, rows.vector.shape[1]
        self._refuse_large(c, d)
        known = fisher.Gradients(rows.vector, rows.probabilities, self._likely(c))
        free = by_id(rows.ids, np.flatnonzero(~rows.labeled))
        labeled = known.information(by_id(rows.ids, np.flatnonzero(rows.labeled)))
        everything = (labeled + known.information(free)) / n
        m = labeled + self.regularization * torch.eye(c * d, dtype=torch.float64).view(c, d, c, d)
        picks, falls = fisher.bait(fisher.Trace(known, m, everything, free), budget, 2 * budget)
        return Picks(tuple(rows.ids[free[i]] for i in picks), np.array(falls, dtype=np.float64))

    def demand(self, size: Size) -> Demand:
        """Matrices of (C d)^2, forms of k^2 a row, and rows in float64; information and two forms of every row, and 3 changes a
        pick."""
        length, k = size.c * size.d, self._likely(size.c)
        a_row = 2 * k * k + size.c * k
        changes = 3 * size.budget * (size.n * length * k + 4 * length * length * k)
        kept = min(8.0 * size.n * (size.d + size.c * k), COPIED)
        return Demand(
            48.0 * length**2 + 16.0 * size.n * a_row + kept, 2.0 * (2.5 * size.n * length**2 + length**3 + changes)
        )

    def _likely(self, c: int) -> int:
        return min(self.likely or (c if c <= ALL_CLASSES else 2), c)

    def _refuse_large(self, c: int, d: int) -> None:
        if c * d > self.largest:
            raise SelectionError(
                f"bait keeps matrices of (C d)^2 numbers, and {c} classes x {d} features = {c * d} is above strategy.largest = "
                f"{self.largest} ({(c * d) ** 2 * 8 / 1e9:.1f} GB each): take badge, or features of fewer dimensions"
            )
