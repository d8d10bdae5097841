"""TypiClust: label the most typical sample of each cluster, largest clusters without a label first."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from mcdal.checked import at_least
from mcdal.selection.checks import refuse_bad_rows
from mcdal.selection.clusters import COPIED, by_id, in_turn, perhaps_most_typical, scaled, typicality, with_nearest
from mcdal.selection.demand import Demand, Size
from mcdal.selection.lloyd import k_means
from mcdal.stack import Matrix
from mcdal.strategies.base import BOTH, About, Strategy
from mcdal.values import Batch, Measurement, Picks, Rows

FEW = 4
"""Points whose nearest are found first, so that only these are compared exactly."""


@dataclass
class TypiClust(Strategy):
    """Hacohen et al. 2022, on features of length 1: given or self-supervised ones where there are any, else the model's.

    All samples, labeled or not, are clustered by k-means into K = min(labeled + budget, `clusters`); clusters of at most
    `smallest` samples are left out. Clusters are taken in turn, those with the fewest labels first and the larger first among
    those; from each its most typical unlabeled sample:

        typicality(x) = 1 / (mean squared distance to its min(`neighbours`, n/2) nearest in the cluster of n + 1e-5).

    Where the clusters are used up, the left-out ones follow in the same way. `score` is the typicality.
    """

    about = About(
        paper="Hacohen et al. 2022, *Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets*",
        needs=("features",),
        cost="k-means of all samples, then distances within each cluster: O(N^2 d / K)",
        memory="a copy of the features, scaled to length 1, up to half a gigabyte; else blocks and a cluster",
        use="the first labels of a pool, with self-supervised features; a cold start",
        avoid="later rounds: typical samples teach little once the classes are known",
        tasks=BOTH,
    )

    clusters: int = 500
    """Most clusters there are, whatever the budget."""
    neighbours: int = 20
    """Nearest samples that typicality is measured over, at most half the cluster."""
    smallest: int = 5
    """Clusters of up to this many samples are left out while there are others."""

    def __post_init__(self) -> None:
        at_least(self, "strategy", 1, "clusters", "neighbours")
        at_least(self, "strategy", 0, "smallest")

    def measure(self, batch: Batch) -> Measurement:
        return Measurement(vector=batch.covering_features())

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        assert rows.vector is not None
        refuse_bad_rows(rows)
        order = by_id(rows.ids, np.arange(len(rows.ids)))
        points, labeled = scaled(rows.vector, order), rows.labeled[order]
        k = min(int(labeled.sum()) + budget, self.clusters, len(order))
        cluster = k_means(points, k, seed)[0]
        queues = (self._queue(points, labeled, members) for members in self._in_turn(cluster, labeled, k))
        picks = in_turn(queues, budget)
        return Picks(tuple(rows.ids[order[i]] for i, _ in picks), np.array([t for _, t in picks], dtype=np.float64))

    def demand(self, size: Size) -> Demand:
        """k-means in ten passes over all centres, and all pairs within the clusters that are asked for a pick; once more, in
        float64, of all where there are more picks than clusters."""
        k = min(size.labeled + size.budget, self.clusters)
        own = size.n / k
        kept = min(4.0 * size.n * size.d, COPIED)
        pairs = (min(k, size.budget) + (2 * k if size.budget > k else 0)) * own * own
        return Demand(kept + 64.0 * size.n + 12 * own * size.d, (10.0 * size.n * k + pairs) * size.d)

    def _in_turn(self, cluster: Int[np.ndarray, " n"], labeled: Bool[np.ndarray, " n"], k: int) -> list[np.ndarray]:
        """Members of each cluster: small clusters last, then by labels (few first), size (large first), smallest id."""
        ends = np.cumsum(np.bincount(cluster, minlength=k))
        members = [found for found in np.split(np.argsort(cluster, kind="stable"), ends[:-1]) if len(found)]
        return sorted(members, key=lambda m: (len(m) <= self.smallest, int(labeled[m].sum()), -len(m), int(m[0])))

    def _queue(
        self, points: Float[Matrix, "n d"], labeled: Bool[np.ndarray, " n"], members: Int[np.ndarray, " m"]
    ) -> Iterator[tuple[int, float]]:
        """Unlabeled members of a cluster, the most typical first. The others are ranked when one of them is asked for."""
        free, neighbours = np.flatnonzero(~labeled[members]), min(self.neighbours, max(1, len(members) // 2))
        first = _most_typical(points[members], neighbours, free)  # read twice: waiting queues hold no rows
        yield from ((int(members[i]), t) for i, t in first)
        rest = np.setdiff1d(free, [i for i, _ in first])
        yield from ((int(members[i]), t) for i, t in _ranked(points[members], neighbours, rest))


def _most_typical(
    points: Float[np.ndarray, "m d"], neighbours: int, of: Int[np.ndarray, " p"]
) -> list[tuple[int, float]]:
    """The first that `_ranked` gives, if there is one."""
    likely = perhaps_most_typical(points, neighbours, of)
    if len(likely) > FEW:
        return _ranked(points, neighbours, likely)[:1]
    near = with_nearest(points, neighbours, likely)
    found = _ranked(points[near], neighbours, np.searchsorted(near, likely))[:1]
    return [(int(near[i]), t) for i, t in found]


def _ranked(points: Float[np.ndarray, "m d"], neighbours: int, of: Int[np.ndarray, " p"]) -> list[tuple[int, float]]:
    """These positions with their typicality, the largest first; ties by position, which is in the order of the ids."""
    typical = [float(f"{t:.6g}") for t in typicality(points, neighbours, of)]  # equal but for rounding: ties
    return sorted(zip(of.tolist(), typical, strict=True), key=lambda pair: (-pair[1], pair[0]))
