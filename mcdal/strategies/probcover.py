"""ProbCover: label what covers the most of the pool that no label covers yet, in balls of one radius."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from mcdal.errors import ConfigError
from mcdal.selection import at_random
from mcdal.selection.checks import refuse_bad_rows
from mcdal.selection.clusters import by_id, unit
from mcdal.selection.covering import PAIRS, Balls, cover
from mcdal.selection.demand import Demand, Size
from mcdal.strategies.base import BOTH, About, Strategy
from mcdal.values import Batch, Ids, Measurement, Picks, Rows


@dataclass
class ProbCover(Strategy):
    """Yehuda et al. 2022, on features of length 1: given or self-supervised ones where there are any, else the model's.

    An edge leads from x to y where ||x - y|| < delta. What a labeled sample reaches is covered. Then, again and again, the
    unlabeled sample that reaches the most uncovered ones is picked, and they are covered. Where everything is covered before the
    budget is spent, the rest is picked at random (the published code picks the first row again and again there). `score` is the
    number of newly covered samples, 0 for those at random.
    """

    about = About(
        paper="Yehuda et al. 2022, *Active Learning Through a Covering Lens*",
        needs=("features",),
        cost="all pairs of samples once, in blocks: O(N^2 d)",
        memory="a copy of the features, and up to 256 neighbours a sample within delta; with more of them they are found anew",
        use="the first labels of a pool, with self-supervised features and delta chosen for them; a cold start",
        avoid="larger budgets: once everything is covered it is Random",
        tasks=BOTH,
    )

    delta: float = 0.75
    """Radius on features of length 1. For SimCLR features of CIFAR-10: .75 in the authors' notes, .55 in UHerding's runs;
    for CIFAR-100 .65 and .5."""

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ConfigError(f"strategy.delta = {self.delta}: give a distance above 0 (2 reaches everything)")

    def measure(self, batch: Batch) -> Measurement:
        return Measurement(vector=batch.covering_features())

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        assert rows.vector is not None
        refuse_bad_rows(rows)
        order = by_id(rows.ids, np.arange(len(rows.ids)))
        points, labeled = unit(rows.vector, order), rows.labeled[order]
        picks, gains = cover(Balls(points, self.delta), labeled, budget)
        ids = [rows.ids[order[i]] for i in picks]
        rest = _at_random(rows, budget - len(ids), set(ids), seed) if len(ids) < budget else ()
        return Picks((*ids, *rest), np.array([*gains, *[0] * len(rest)], dtype=np.float64))

    def demand(self, size: Size) -> Demand:
        """Each pair once; a copy of the vectors, and lists of `PAIRS` neighbours each while they are made."""
        return Demand((4.0 * size.d + 24 * PAIRS) * size.n, 0.5 * size.n * size.n * size.d)


def _at_random(rows: Rows, count: int, taken: Collection[str], seed: int) -> Ids:
    """Of what is neither labeled nor taken."""
    left = [id for id, labeled in zip(rows.ids, rows.labeled.tolist(), strict=True) if not labeled and id not in taken]
    return at_random(left, count, seed).ids
