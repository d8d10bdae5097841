"""MaxHerding: label what brings most of the pool close to a label, softly, with a Gaussian kernel."""

from dataclasses import dataclass

import numpy as np

from mcdal.checked import above_zero
from mcdal.selection.checks import refuse_bad_rows
from mcdal.selection.clusters import by_id, unit
from mcdal.selection.demand import Demand, Size
from mcdal.selection.herding import herd, herding_demand
from mcdal.strategies.base import BOTH, About, Strategy
from mcdal.values import Batch, Measurement, Picks, Rows


@dataclass
class MaxHerding(Strategy):
    """Bae et al. 2024, on features of length 1: given or self-supervised ones where there are any, else the model's.

    Picks, again and again, argmax_x mean_n max(k(x, x_n) - m_n, 0), with k(x, y) = exp(-(||x - y|| / h)^2) and m_n the largest
    kernel of x_n to anything labeled or picked. `score` is that gain.
    """

    about = About(
        paper="Bae et al. 2024, *Generalized Coverage for More Robust Low-Budget Active Learning*",
        needs=("features",),
        cost="all pairs of samples in blocks, then some of them again, the fewer the more is picked: O(N^2 d log b)",
        memory="a copy of the features, a few numbers a sample, up to 256 where the bandwidth is narrow",
        use="small budgets with self-supervised features, where ProbCover's radius is hard to choose; a cold start",
        avoid="pools of many hundred thousands, and larger budgets",
        tasks=BOTH,
    )

    bandwidth: float = 1.0
    """h of the kernel."""

    def __post_init__(self) -> None:
        above_zero(self, "strategy", "bandwidth")

    def measure(self, batch: Batch) -> Measurement:
        return Measurement(vector=batch.covering_features())

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        assert rows.vector is not None
        refuse_bad_rows(rows)
        order = by_id(rows.ids, np.arange(len(rows.ids)))
        even = np.ones(len(order), dtype=np.float32)
        picks, gains = herd(unit(rows.vector, order), rows.labeled[order], even, self.bandwidth, budget)
        return Picks(tuple(rows.ids[order[i]] for i in picks), np.array(gains, dtype=np.float64))

    def demand(self, size: Size) -> Demand:
        """As of `herd`."""
        return herding_demand(size)
