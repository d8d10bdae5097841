"""k-center greedy: the sample that is farthest from everything chosen so far, again and again."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mcdal.stack import Matrix
from mcdal.values import Ids

CHUNK = 8_192
"""Rows of a product: what is read of a memory-mapped array at once."""
TIE = 1e-6
"""Distances that differ by less than this share are equal but for rounding."""
TIED = (1 - TIE) ** 2
"""The same for squared distances."""
SAMPLED = 128
"""Centres that every row is compared with at the start."""
BLOCK = 256
"""Centres of one product."""
WINDOW = 512
"""Rows among which picks are made before others are looked at again."""
GRAM = 2_048
"""Up to so many rows in a window, all their distances to each other are computed at once."""
CANCELS = 1e-9
"""A squared distance below this share of the squared lengths is taken from differences: a product has lost it."""


def chunks(n: int, size: int = CHUNK) -> Iterator[slice]:
    """range(n) in parts."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def part(vectors: Float[Matrix, "n d"], where: slice | Int[np.ndarray, " m"]) -> Float[Tensor, "m d"]:
    """Some rows as a float32 tensor, read from disk if they lie there."""
    rows = vectors[where]
    if rows.dtype == np.float16:
        return torch.from_numpy(widened(rows))
    return torch.from_numpy(np.array(rows, dtype=np.float32))  # a copy: a mapping may be read-only


def widened(rows: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    """float16 as float32: torch has instructions for it and numpy has not. Others as they are."""
    if rows.dtype != np.float16:
        return rows
    wide: np.ndarray = torch.from_numpy(rows if rows.flags.writeable else rows.copy()).float().numpy()
    return wide


def nearest(vectors: Float[Matrix, "n d"], centres: Int[np.ndarray, " k"]) -> Float[np.ndarray, " n"]:
    """Distance of every row to its nearest centre, infinite where there is none. Blocks of at most CHUNK x 1024.

    Which centre is nearest is found by products, about the mean of the rows, where they cancel least; how far it is by
    differences.
    """
    if len(centres) == 0:
        return np.full(len(vectors), np.inf, dtype=np.float32)
    about, found = mean(vectors), np.empty(len(vectors), dtype=np.float32)
    for where in chunks(len(vectors)):
        rows = part(vectors, where)
        least, which = torch.full((len(rows),), torch.inf), torch.zeros(len(rows), dtype=torch.int64)
        for block in chunks(len(centres), 1_024):
            points = part(vectors, centres[block]) - about
            squared = torch.addmm(points.square().sum(1), rows - about, points.T, alpha=-2)  # but for |row|^2
            here, place = squared.min(1)
            which = torch.where(here < least, place + block.start, which)
            least = torch.minimum(least, here)
        found[where] = (rows - part(vectors, centres[which.numpy()])).norm(dim=1).numpy()
    return found


def mean(vectors: Float[Matrix, "n d"]) -> Float[Tensor, " d"]:
    """Of the rows, added up in float64."""
    total = torch.zeros(vectors.shape[1], dtype=torch.float64)
    for where in chunks(len(vectors), 512):  # so few that their memory is not new from the system each time
        total += part(vectors, where).double().sum(0)
    return (total / len(vectors)).float()


def k_center(
    ids: Ids, vectors: Float[Matrix, "n d"], centres: Bool[np.ndarray, " n"], budget: int
) -> tuple[list[int], list[float]]:
    """Positions of `budget` rows, each the farthest from all centres and earlier picks (Sener and Savarese 2018, Alg. 1).

    The second list has each pick's distance at the time. A row is picked once; distances that differ by less than TIE are
    ties, which go to the smaller id. Without any centre the first pick is the row nearest to the mean of all, the 1-center of
    least squares; its distance is that to the mean.

    A distance to the nearest centre only ever shrinks, so an old one is an upper bound: rows are compared with further centres
    only while they may be among the farthest (`_Bounds`). Picks are then made within such a window of rows, whose distances to
    each other are at hand, until a row outside may be as far. Memory: a few numbers a row, and blocks.
    """
    budget = min(budget, int((~centres).sum()))
    picks: list[int] = []
    distances: list[float] = []
    bounds = _Bounds(vectors, np.flatnonzero(centres))
    if budget > 0 and not centres.any():
        first, distance = _most_central(ids, vectors)
        bounds.add(np.array([first]))
        picks, distances = [first], [distance]
    bounds.begin()
    width = WINDOW
    while len(picks) < budget:
        left = budget - len(picks)
        window = bounds.leading(ids, min(width, 4 * left + 64) if width <= GRAM else width)
        made, squared = _within(ids, bounds, window, left)
        bounds.add(made)
        picks += made.tolist()
        distances += np.sqrt(squared).tolist()
        if len(made) == 0:  # a row outside may tie with those inside; with all rows inside there is always a pick
            width = 2 * len(window)
        elif len(made) < len(window) // 8:  # many equal rows
            width = min(2 * width, GRAM)
    return picks, distances


def _within(
    ids: Ids, bounds: "_Bounds", rows: Int[np.ndarray, " w"], budget: int
) -> tuple[Int[np.ndarray, " p"], list[float]]:
    """Picks among these rows, as long as the farthest of all rows is one of them for certain."""
    squared = bounds.squared[rows]
    bounds.squared[rows] = -1
    outside, rival = float(bounds.squared.max(initial=-1.0)), None
    window = _Window(bounds, rows)
    picks: list[int] = []
    reached: list[float] = []
    while len(picks) < budget:
        least = max(squared.max(), outside) * TIED
        leading = np.flatnonzero(squared >= least).tolist()
        if len(leading) == 0 or squared.max() < 0:
            break
        pick = min(leading, key=lambda i: ids[rows[i]])
        if outside >= least:
            rival = bounds.first(ids, outside * TIED) if rival is None else rival
            if ids[rows[pick]] >= rival:
                break
        picks.append(pick)
        reached.append(float(squared[pick]))
        if squared[pick] > 0:
            np.minimum(squared, window.squared(pick), out=squared)
        squared[picks] = -1
    bounds.squared[rows] = squared
    bounds.seen[rows] = len(bounds.centres) + len(picks)
    return rows[picks], reached


class _Bounds:
    """Of every row an upper bound of its squared distance to the nearest centre, exact where it has seen all centres.

    squared: -1 for centres. seen: with how many centres, from the first on, a row was compared in float64. Products are
    taken about the mean of some rows, where they cancel least.
    """

    def __init__(self, vectors: Float[Matrix, "n d"], centres: Int[np.ndarray, " k"]):
        self.centres: list[int] = []
        self.squared = np.full(len(vectors), np.inf)
        self.seen = np.zeros(len(vectors), dtype=np.int64)
        self._vectors = vectors
        self._about = mean(vectors[:: max(1, len(vectors) // 4_096)]).double()
        self.add(centres)

    def add(self, centres: Int[np.ndarray, " k"]) -> None:
        """New centres, the most central of them first: these are near to most rows, and so bring most bounds down."""
        far = [self.centred(centres[where]).square().sum(1).numpy() for where in chunks(len(centres))]
        self.centres += centres[np.argsort(np.concatenate([*far, []]))].tolist()
        self.squared[centres] = -1

    def begin(self) -> None:
        """A first bound of all rows, from some centres. In float32, so with room for what rounding can do."""
        if not self.centres:
            return
        order, half = np.array(self.centres), SAMPLED // 2
        some = np.concatenate([order[:half], order[half:][:: max(1, (len(order) - half) // half)]])
        about = self._about.float()
        points = part(self._vectors, some) - about
        norms = points.square().sum(1)
        room = 2 * self._vectors.shape[1] * torch.finfo(torch.float32).eps
        for where in chunks(len(self._vectors), 2_048):
            rows = part(self._vectors, where) - about
            own = rows.square().sum(1)
            nearest = torch.addmm(norms, rows, points.T, alpha=-2).amin(1)
            self.squared[where] = (nearest + own + room * (own + norms.max())).double().numpy()
        self.squared[self.centres] = -1

    def leading(self, ids: Ids, count: int) -> Int[np.ndarray, " w"]:
        """The `count` rows with the largest distances, which are exact then; of ties the smaller ids."""
        while True:
            exact = (self.seen == len(self.centres)) | (self.squared == 0)
            known = self.squared[exact]
            least = np.partition(known, len(known) - count)[len(known) - count] if len(known) >= count else 0.0
            floor = max(float(least), 0.0) * TIED  # with all that tie
            stale = np.flatnonzero(~exact & (self.squared >= floor))
            if len(stale) == 0:
                return self._first(ids, np.flatnonzero(self.squared >= floor), count)
            size = min(count, GRAM)
            if len(stale) > size:
                stale = stale[np.argpartition(self.squared[stale], len(stale) - size)[len(stale) - size :]]
            self._refresh(stale, floor)

    def _first(self, ids: Ids, rows: Int[np.ndarray, " m"], count: int) -> Int[np.ndarray, " w"]:
        """`count` of these rows, all but some of those that tie for the last place."""
        if len(rows) <= count:
            return rows
        last = self.squared[rows] <= self.squared[rows].min() / TIED
        by_id = sorted(rows[last].tolist(), key=ids.__getitem__)
        certain = rows[~last]
        return np.concatenate([certain, np.array(by_id[: count - len(certain)], dtype=np.int64)])

    def first(self, ids: Ids, least: float) -> str:
        """The smallest id of the rows with at least this distance; before all ids where not all of them are exact."""
        rows = np.flatnonzero(self.squared >= least)
        exact = (self.seen[rows] == len(self.centres)) | (self.squared[rows] == 0)
        return min(ids[i] for i in rows.tolist()) if exact.all() else ""

    def _refresh(self, rows: Int[np.ndarray, " m"], floor: float) -> None:
        """Compares these rows with the centres that they have not seen, each until its bound is below `floor`."""
        order = np.array(self.centres)
        x = self.centred(rows)
        norms = x.square().sum(1)
        squared, seen = self.squared[rows], self.seen[rows]
        for first in range(int(seen.min()), len(order), BLOCK):
            block = order[first : first + BLOCK]
            behind = np.flatnonzero((seen < first + len(block)) & (squared >= floor) & (squared > 0))
            if len(behind) == 0:
                continue
            some, lengths = (x, norms) if len(behind) == len(x) else (x[behind], norms[behind])
            points = self.centred(block)
            both = points.square().sum(1)
            apart, which = torch.addmm(both, some, points.T, alpha=-2).min(1)
            apart = _exact(apart + lengths, lengths + both[which], some, points, which)
            squared[behind] = np.minimum(squared[behind], apart.numpy())
            seen[behind] = first + len(block)
        self.squared[rows], self.seen[rows] = squared, seen

    def centred(self, rows: Int[np.ndarray, " m"]) -> Float[Tensor, "m d"]:
        """These rows about the mean, in float64."""
        return part(self._vectors, rows).double() - self._about


class _Window:
    """Squared distances between some rows."""

    def __init__(self, bounds: _Bounds, rows: Int[np.ndarray, " w"]):
        self._bounds, self._rows = bounds, rows
        self._whole = len(rows) <= GRAM
        if self._whole:
            self._x = bounds.centred(rows)
            self._norms = self._x.square().sum(1)
            self._products = self._x @ self._x.T

    def squared(self, row: int) -> Float[np.ndarray, " w"]:
        """Of all of them to this one."""
        if self._whole:
            both = self._norms + self._norms[row]
            which = torch.full((len(both),), row)
            return _exact(both - 2 * self._products[row], both, self._x, self._x, which).numpy()
        centre, found = self._bounds.centred(self._rows[row : row + 1]), np.empty(len(self._rows))
        for where in chunks(len(self._rows), GRAM):
            found[where] = (self._bounds.centred(self._rows[where]) - centre).square().sum(1).numpy()
        return found


def _exact(
    apart: Float[Tensor, " m"],
    both: Float[Tensor, " m"],
    x: Float[Tensor, "m d"],
    points: Float[Tensor, "k d"],
    which: Int[Tensor, " m"],
) -> Float[Tensor, " m"]:
    """Squared distances of x to points[which]: as given, or from differences where products have lost them."""
    lost = (apart < CANCELS * both).nonzero()[:, 0]
    for where in chunks(len(lost), GRAM):
        apart[lost[where]] = (x[lost[where]] - points[which[lost[where]]]).square().sum(1)
    return apart


def first_by_id(ids: Ids, values: Float[np.ndarray, " n"], tie: float = 0.0) -> int:
    """Position of the largest value, of equal ones (up to this share of it) that of the smallest id."""
    largest = values.max()
    leading = np.flatnonzero(values >= largest - tie * abs(largest)).tolist()
    return min(leading, key=lambda i: ids[i])


def _most_central(ids: Ids, vectors: Float[Matrix, "n d"]) -> tuple[int, float]:
    about, apart = mean(vectors), np.empty(len(vectors), dtype=np.float32)
    for where in chunks(len(vectors)):
        apart[where] = (part(vectors, where) - about).norm(dim=1).numpy()
    first = first_by_id(ids, -apart, TIE)
    return first, float(apart[first])
