"""Greedy coverage with a kernel: pick what brings the most weight of the pool closest to a pick."""

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mcdal.selection.covering import pairs_within, squared_lengths
from mcdal.selection.demand import Demand, Size
from mcdal.selection.k_center import chunks

NARROW = 0.1
"""A bandwidth below this share of the longest point is beyond what products in float32 resolve."""
NOTHING = 87.0
"""exp(-87) is where normal float32 numbers end: a pair that is further apart than sqrt(87) bandwidths counts as 0."""
PAIRS = 256
"""Pairs a point, on average, whose kernels are kept where the bandwidth is narrow."""
TIE = 1e-5
"""Gains that differ by less than this share of the largest are ties: two points that are near to each other alone always gain
the same, and rounding must not decide."""
KEPT = 1 << 29
"""Bytes up to which the kernels of all pairs are kept: finding a gain anew is then a look, and not a product."""
TILE = 512, 4_096
"""Points that are compared at once, with how many others."""
ROUNDING = 2e-6
"""How far the change of a gain may be off in float32, per weight that changed and as a share of the change."""

Positions = Int[np.ndarray, " _"]


class _Kernel(ABC):
    @abstractmethod
    def gains(self, where: Positions) -> Float[np.ndarray, " m"]:
        """The true gains of these points."""

    @abstractmethod
    def reach(self, where: Positions) -> None:
        """These points are labeled or picked: raises m."""

    @abstractmethod
    def settle(self) -> None:
        """Told that all bounds are found for m as it is now."""

    @abstractmethod
    def lower(self, bound: Float[np.ndarray, " n"], where: Positions) -> bool:
        """Whether it lowered in place what no gain can exceed (-inf: taken), in less time than has been spent, with `where`
        now, on single gains since it last did."""


def herd(
    points: Float[np.ndarray, "n d"],
    labeled: Bool[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"],
    bandwidth: float,
    budget: int,
) -> tuple[list[int], list[float]]:
    """`budget` unlabeled positions: again and again argmax_x of (1/n) sum_i w_i max(k(x, x_i) - m_i, 0), ties to the first.

    k(x, y) = exp(-||x - y||^2 / h^2), m_i the largest kernel of x_i to a labeled or picked point (Bae et al. 2024 and 2025,
    MaxHerding and UHerding). A gain can only shrink as picks are added, so only the candidates that come to the top with a
    stale gain are computed again (Minoux 1978). Where that takes long, all gains are lowered at once by what they have lost at
    the points whose m has risen, which are the fewer the more picks there are. The picks are those of the full search.
    Memory: a few numbers a point, tiles, and up to `PAIRS` kernels a point where the bandwidth is narrow; half a gigabyte at
    most, for the kernels of all pairs, where they fit into it (11,585 points).
    """
    kernel, free = _kernel(points, weight.astype(np.float32), bandwidth), np.flatnonzero(~labeled)
    kernel.reach(np.flatnonzero(labeled))
    bound = np.full(len(points), -np.inf)
    bound[free] = kernel.gains(free)
    kernel.settle()
    picks: list[int] = []
    reached: list[float] = []
    while len(picks) < min(budget, len(free)):
        pick = _refreshed(bound, kernel)
        picks.append(pick)
        reached.append(float(bound[pick]))
        bound[pick] = -np.inf
        kernel.reach(np.array([pick]))
    return picks, reached


def herding_demand(size: Size) -> Demand:
    """All pairs, again whenever the picks have doubled; a copy of the points, and lists of kernels while they are made."""
    kept = min(KEPT, 4.0 * size.n * size.n)
    times = 1 + math.log2(1 + size.budget)
    return Demand((4.0 * size.d + 24 * PAIRS) * size.n + kept, times * size.n * size.n * size.d)


def nearest_pair(points: Float[np.ndarray, "l d"]) -> float | None:
    """The smallest distance above 1e-3 between two of these points, of length 1; None where there is none.

    What is closer is the same image twice or nearly so, and says nothing about how far apart images are.
    """
    rows = torch.from_numpy(points)
    norms, least = squared_lengths(rows, torch.float64), float("inf")
    for part in chunks(len(rows), 512):
        for columns in chunks(part.stop, 4_096):
            squared = torch.addmm(norms[columns], rows[part].double(), rows[columns].double().T, alpha=-2)
            apart = squared.add_(norms[part, None]).clamp_min_(0).sqrt_()
            least = min(least, float(torch.where(apart > 1e-3, apart, torch.inf).min()))
    return least if least < float("inf") else None


def _kernel(points: Float[np.ndarray, "n d"], weight: Float[np.ndarray, " n"], bandwidth: float) -> _Kernel:
    longest = float(squared_lengths(torch.from_numpy(points)).max().sqrt())
    kind = _Kept if 4 * len(points) ** 2 <= KEPT else _Blocks
    if bandwidth >= NARROW * longest:
        return kind(points, weight, bandwidth, narrow=False)
    noise = 1e-5 * longest**2  # of a squared distance that is found by products
    pairs = pairs_within(points, NOTHING * bandwidth**2 + noise, PAIRS * len(points))
    if pairs is None:
        return kind(points, weight, bandwidth, narrow=True)
    values = np.empty(len(pairs.first), dtype=np.float32)
    for part in chunks(len(values), 4_096):
        squared = np.square(points[pairs.first[part]] - points[pairs.second[part]]).sum(1)
        values[part] = np.exp(-squared / np.float32(bandwidth**2))
    lists = pairs.both_ways(values)
    return _Lists(lists.indptr, lists.indices, lists.data, weight)


class _Lists(_Kernel):
    """Kernels that are not 0, kept: row i in data[start[i] : start[i + 1]], with the points at `there`."""

    def __init__(self, start: np.ndarray, there: np.ndarray, data: np.ndarray, weight: np.ndarray):
        self._start, self._there, self._data, self._weight = start, there, data, weight
        self._best = np.zeros(len(weight), dtype=np.float32)

    def gains(self, where: Positions) -> Float[np.ndarray, " m"]:
        found = np.empty(len(where))
        for part in chunks(len(where), 4_096):
            first, size = self._start[where[part]], np.diff(self._start)[where[part]]  # at least 1: itself
            begin = np.cumsum(size) - size
            entries = np.arange(size.sum()) + np.repeat(first - begin, size)
            there = self._there[entries]
            more = np.maximum(self._data[entries] - self._best[there], 0).astype(np.float64) * self._weight[there]
            found[part] = np.add.reduceat(more, begin) / len(self._weight)
        return found

    def reach(self, where: Positions) -> None:
        for i in where.tolist():
            row = slice(self._start[i], self._start[i + 1])
            there = self._there[row]
            self._best[there] = np.maximum(self._best[there], self._data[row])

    def settle(self) -> None:
        pass

    def lower(self, bound: Float[np.ndarray, " n"], where: Positions) -> bool:
        return False


class _Blocks(_Kernel):
    """Kernels in tiles, found when they are needed, by products: in float64 where the bandwidth is narrow."""

    def __init__(self, points: Float[np.ndarray, "n d"], weight: np.ndarray, bandwidth: float, narrow: bool):
        self._rows, self._weight = torch.from_numpy(points), torch.from_numpy(weight)
        self._dtype, self._scale = torch.float64 if narrow else torch.float32, 1 / bandwidth**2
        self._norms = squared_lengths(self._rows, self._dtype) * self._scale
        self._best = torch.zeros(len(points))
        self._level = self._best.clone()  # m when all bounds were found, and which were found anew since
        self._since, self._spent = np.zeros(len(points), dtype=bool), 0

    def gains(self, where: Positions) -> Float[np.ndarray, " m"]:
        return self._summed(where, None, self._best, None)

    def reach(self, where: Positions) -> None:
        every = torch.arange(len(self._rows))
        for part in chunks(len(where), TILE[0]):
            for block in chunks(len(self._rows), TILE[1]):
                k = self._tile(torch.from_numpy(where[part]), every[block], self._rows[block])
                best = self._best[block]
                torch.maximum(best, k.amax(0), out=best)

    def lower(self, bound: Float[np.ndarray, " n"], where: Positions) -> bool:
        risen = ((self._best > self._level) & (self._weight > 0)).nonzero()[:, 0]
        old = np.flatnonzero((bound > -np.inf) & ~self._since)  # what is younger has lost an unknown part of it already
        self._spent += len(where) * len(bound)
        if len(risen) == 0 or self._spent < len(old) * len(risen):
            self._since[where] = True
            return False
        if 2 * len(risen) > len(bound):
            bound[old] = np.minimum(bound[old], self.gains(old))
        else:
            less = self._summed(old, risen, self._level[risen], self._best[risen])
            off = ROUNDING * (less + float(self._weight[risen].sum()) / len(bound))
            bound[old] -= np.maximum(less - off, 0)
        self.settle()
        return True

    def settle(self) -> None:
        self._level, self._spent = self._best.clone(), 0
        self._since[:] = False

    def _summed(
        self, where: Positions, columns: Tensor | None, low: Tensor, high: Tensor | None
    ) -> Float[np.ndarray, " m"]:
        """(1/n) sum over the columns of w (max(k - low, 0) - max(k - high, 0)), without the latter where high is None."""
        found = np.zeros(len(where))
        at = torch.arange(len(self._rows)) if columns is None else columns
        weight = self._weight if columns is None else self._weight[columns]
        for start in range(0, len(at), TILE[1]):
            block = slice(start, start + TILE[1])
            rows = self._rows[block] if columns is None else self._rows[at[block]]
            for part in chunks(len(where), TILE[0]):
                k = self._tile(torch.from_numpy(where[part]), at[block], rows)
                if high is not None:  # max(k - low, 0) - max(k - high, 0) = max(min(k, high) - low, 0)
                    torch.minimum(k, high[block], out=k)
                found[part] += (k.sub_(low[block]).clamp_min_(0) @ weight[block]).double().numpy()
        return found / len(self._rows)

    def _tile(self, where: Tensor, columns: Tensor, there: Tensor) -> Float[Tensor, "m t"]:
        here, there = self._rows[where].to(self._dtype), there.to(self._dtype)
        k = torch.addmm(-self._norms[columns], here, there.T, alpha=2 * self._scale)
        k = k.sub_(self._norms[where, None]).clamp_max_(0).exp_().float()
        place = torch.searchsorted(columns, where).clamp_max(len(columns) - 1)
        same = (columns[place] == where).nonzero()[:, 0]
        k[same, place[same]] = 1  # itself, whatever rounding says
        return k


class _Kept(_Blocks):
    """The kernels of all pairs, found once: each pair by one product."""

    def __init__(self, points: Float[np.ndarray, "n d"], weight: np.ndarray, bandwidth: float, narrow: bool):
        super().__init__(points, weight, bandwidth, narrow)
        n = len(points)
        self._k = torch.empty(n, n)
        every = torch.arange(n)
        for part in chunks(n, TILE[0]):
            columns = every[: part.stop]
            tile = super()._tile(every[part], columns, self._rows[columns])
            self._k[part, : part.stop] = tile
            self._k[: part.start, part] = tile[:, : part.start].T

    def _summed(
        self, where: Positions, columns: Tensor | None, low: Tensor, high: Tensor | None
    ) -> Float[np.ndarray, " m"]:
        if columns is None or high is None:
            return super()._summed(where, columns, low, high)
        found = torch.zeros(len(self._rows), dtype=torch.float64)
        for part in chunks(len(columns), TILE[0]):
            k = self._k.index_select(0, columns[part])  # k(x, y) = k(y, x), and rows lie side by side in memory
            torch.minimum(k, high[part, None], out=k)
            found += self._weight[columns[part]] @ k.sub_(low[part, None]).clamp_min_(0)
        gain: np.ndarray = found.numpy()[where] / len(self._rows)
        return gain

    def _tile(self, where: Tensor, columns: Tensor, there: Tensor) -> Float[Tensor, "m t"]:
        return self._k[:, int(columns[0]) : int(columns[-1]) + 1].index_select(0, where)


def _refreshed(bound: Float[np.ndarray, " n"], kernel: _Kernel) -> int:
    """The first position of the largest true gain; bounds are made true in place, as few as are needed."""
    fresh = np.zeros(len(bound), dtype=bool)
    size = 16
    while True:
        largest = bound.max()
        leading = np.flatnonzero(bound >= largest - TIE * largest)
        if fresh[leading].all():
            return int(leading[0])
        few = np.argpartition(-bound, min(size, len(bound) - 1))[:size]
        stale = np.union1d(few, leading)
        stale = stale[~fresh[stale] & (bound[stale] > -np.inf)]
        if kernel.lower(bound, stale):
            continue
        # In the tiles' own precision a refreshed gain may come out above its bound by a last bit; it must not grow.
        bound[stale] = np.minimum(bound[stale], kernel.gains(stale))
        fresh[stale] = True
        size = min(2 * size, 512)
