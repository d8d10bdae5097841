"""Core-set: label what is farthest from everything that is labeled, so that the labels cover the pool."""

from dataclasses import dataclass

import numpy as np

from mcdal.checked import at_least
from mcdal.errors import ConfigError, SelectionError
from mcdal.selection.checks import refuse_bad_rows
from mcdal.selection.demand import Demand, Size
from mcdal.selection.k_center import k_center, nearest
from mcdal.selection.robust_k_center import robust_k_center
from mcdal.strategies.base import BOTH, About, Strategy
from mcdal.values import Batch, Measurement, Picks, Rows


@dataclass
class CoreSet(Strategy):
    """Sener and Savarese 2018, on the features before the head, after pooling, not normalised.

    Greedy: m_i = min over labeled l of ||z_i - z_l||; pick argmax m, set m = min(m, ||z - z_new||), again and again; at most
    twice the best radius. With `outliers` the mixed-integer program improves on it where the pool is small enough. `score` is the
    distance to the nearest centre: at the time of the pick (greedy), or from the labeled samples (robust).
    """

    about = About(
        paper="Sener and Savarese 2018, *Active Learning for Convolutional Neural Networks: A Core-Set Approach*",
        needs=("features",),
        cost="2 to 40 % of all distances between features and the labeled ones and picks: seconds for 50,000 x 512",
        memory="a few numbers a sample; the robust version needs N x N numbers and is refused beyond `limit`",
        use="redundant pools and good features; a cold start on self-supervised ones",
        avoid="features of a weak model, noisy pools (it goes for outliers), many classes with few labels",
        tasks=BOTH,
    )

    outliers: float | None = None
    """Robust version: share of the pool that may stay uncovered (1e-4 in the paper; 0 in its code). None is greedy."""
    limit: int = 1_000
    """Largest pool that the robust version takes on."""

    def __post_init__(self) -> None:
        if self.outliers is not None and not 0 <= self.outliers < 1:
            raise ConfigError(
                f"strategy.outliers = {self.outliers}: give a share of the pool from 0 to below 1, or null"
            )
        at_least(self, "strategy", 1, "limit")

    def measure(self, batch: Batch) -> Measurement:
        if batch.output is None:  # a cold start: given features, no model
            return Measurement(vector=batch.embedding)
        return Measurement(vector=batch.output.features)

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        assert rows.vector is not None
        refuse_bad_rows(rows)
        if self.outliers is None:
            picks, distances = k_center(rows.ids, rows.vector, rows.labeled, budget)
            return Picks(tuple(rows.ids[i] for i in picks), np.array(distances, dtype=np.float64))
        if len(rows.ids) > self.limit:
            raise SelectionError(
                f"the robust core-set of {len(rows.ids):,} samples is too large a program: leave strategy.outliers at null "
                f"(greedy), or raise strategy.limit above {self.limit:,}"
            )
        return self._robust(rows.take(np.array(sorted(range(len(rows.ids)), key=lambda i: rows.ids[i]))), budget)

    def demand(self, size: Size) -> Demand:
        """A fifth of all distances, in float64."""
        return Demand(64.0 * size.n, 0.4 * size.n * (size.labeled + size.budget) * size.d)

    def _robust(self, rows: Rows, budget: int) -> Picks:
        assert rows.vector is not None and self.outliers is not None
        budget = min(budget, int((~rows.labeled).sum()))
        allowed = round(self.outliers * len(rows.ids))
        picks, _ = robust_k_center(rows.ids, rows.vector, rows.labeled, budget, allowed)
        far = nearest(rows.vector, np.flatnonzero(rows.labeled))[picks]
        order = sorted(range(len(picks)), key=lambda i: (-far[i], rows.ids[picks[i]]))
        return Picks(tuple(rows.ids[picks[i]] for i in order), far[order].astype(np.float64))
