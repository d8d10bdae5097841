"""Covering by balls of one radius: which samples lie within it of which others, in memory that grows with the samples alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from mcdal.selection.k_center import chunks

PAIRS = 256
"""Neighbours a point, on average, that are kept as lists; with more of them they are found again when they are needed."""
TILE = 1_024, 8_192
"""Points that are compared at once, with how many others."""

Positions = Int[np.ndarray, " _"]


class Balls:
    """For points of length 1 or any: the points within `radius` of each, itself included."""

    def __init__(self, points: Float[np.ndarray, "n d"], radius: float):
        self._points, self._squared = torch.from_numpy(points), radius * radius
        self._half = squared_lengths(self._points) / 2
        pairs = pairs_within(points, radius * radius, PAIRS * len(points))
        self._lists = None if pairs is None else pairs.both_ways()

    def reached(self, where: Positions) -> Bool[np.ndarray, " n"]:
        """What lies within the radius of at least one of these points."""
        found = np.zeros(len(self._points), dtype=bool)
        if self._lists is not None:
            found[self._lists[where].indices] = True
            return found
        for part in chunks(len(where), TILE[0]):
            for columns, near in self._near(where[part]):
                found[columns] |= near.any(0).numpy()
        found[where] = True  # itself, whatever rounding says
        return found

    def degrees(self, counted: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """For each point, how many of the `counted` ones it reaches. As many products as there are of the counted ones."""
        return self._reaching(np.flatnonzero(counted))

    def lost(self, degree: Int[np.ndarray, " n"], where: Positions) -> None:
        """Takes these points, which are covered from now on, off the degree of all that reach them; in place."""
        degree -= self._reaching(where)

    def _reaching(self, where: Positions) -> Int[np.ndarray, " n"]:
        """For each point, how many of `where` reach it, and so how many it reaches."""
        n = len(self._points)
        if self._lists is not None:
            return np.bincount(self._lists[where].indices, minlength=n)
        found = np.zeros(n, dtype=np.int64)
        for part in chunks(len(where), TILE[0]):
            for columns, near in self._near(where[part]):
                found[columns] += near.float().sum(0).long().numpy()
        return found

    def _near(self, where: Positions) -> Iterator[tuple[slice, Bool[Tensor, "m t"]]]:
        rows = self._points[torch.from_numpy(where)]
        least = (self._half[torch.from_numpy(where)] - self._squared / 2)[:, None]
        for columns in chunks(len(self._points), TILE[1]):
            near = torch.addmm(-self._half[columns], rows, self._points[columns].T) > least
            inside = np.flatnonzero((where >= columns.start) & (where < columns.stop))
            near[inside, where[inside] - columns.start] = True  # itself, whatever rounding says
            yield columns, near


@dataclass(frozen=True)
class Pairs:
    """Pairs of `n` points, each once: first < second."""

    n: int
    first: Int[np.ndarray, " p"]
    second: Int[np.ndarray, " p"]

    def both_ways(self, values: Float[np.ndarray, " p"] | None = None, itself: float = 1) -> csr_array:
        """Row i: the points that i is in a pair with, and i itself, with the pairs' values."""
        given = np.ones(len(self.first), dtype=np.int8) if values is None else values
        every, own = np.arange(self.n, dtype=np.int32), np.full(self.n, itself, dtype=given.dtype)
        upper = coo_array(
            (
                np.concatenate([given, own]),
                (np.concatenate([self.first, every]), np.concatenate([self.second, every])),
            ),
            shape=(self.n, self.n),
        ).tocsr()
        lower = coo_array((given, (self.second, self.first)), shape=(self.n, self.n)).tocsr()
        return csr_array(upper + lower)


def pairs_within(points: Float[np.ndarray, "n d"], squared: float, most: int) -> Pairs | None:
    """The pairs whose squared distance is below `squared`, by products in tiles; None where they are more than `most` / 2."""
    rows = torch.from_numpy(points)
    half, n = squared_lengths(rows) / 2, len(points)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    kept = 0
    for here in chunks(n, TILE[0]):
        least = (half[here] - squared / 2)[:, None]
        for start in range(here.start, n, TILE[1]):  # each pair once
            there = slice(start, min(start + TILE[1], n))
            near = (torch.addmm(-half[there], rows[here], rows[there].T) > least).numpy()
            first, second = np.divmod(np.flatnonzero(near), near.shape[1])
            later = second + there.start > first + here.start
            first, second = first[later] + here.start, second[later] + there.start
            kept += len(first)
            if 2 * kept > most:
                return None
            found.append((first.astype(np.int32), second.astype(np.int32)))
    first, second = (np.concatenate([pair[i] for pair in found]) for i in (0, 1))
    return Pairs(n, first, second)


def squared_lengths(rows: Float[Tensor, "n d"], dtype: torch.dtype = torch.float32) -> Float[Tensor, " n"]:
    """||x||^2 of every row, without a second copy of all rows."""
    found = torch.empty(len(rows), dtype=dtype)
    for part in chunks(len(rows), 512):  # so few that their memory is not new from the system each time
        found[part] = rows[part].to(dtype).square().sum(1)
    return found


def cover(balls: Balls, labeled: Bool[np.ndarray, " n"], budget: int) -> tuple[list[int], list[int]]:
    """Up to `budget` unlabeled positions, each covering the most of what nothing covers yet (ties: the first position).

    Ends early where everything is covered. The second list says how many each newly covers. (Yehuda et al. 2022, Alg. 1.)
    """
    uncovered = ~balls.reached(np.flatnonzero(labeled))
    degree = balls.degrees(uncovered)
    degree[labeled] = 0
    picks: list[int] = []
    gains: list[int] = []
    while len(picks) < budget and degree.max(initial=0) > 0:
        pick = int(degree.argmax())
        picks.append(pick)
        gains.append(int(degree[pick]))
        newly = np.flatnonzero(balls.reached(np.array([pick])) & uncovered)
        uncovered[newly] = False
        balls.lost(degree, newly)  # whoever reaches one of them, and it reaches as far back, loses it
        degree[pick] = 0
        degree[labeled] = 0
    return picks, gains
