"""Covering by balls of one radius: which samples lie within it of which others, without ever holding all pairs."""

import numpy as np
import torch
from jaxtyping import Bool, Float

from mcdal.selection.k_center import chunks

EDGES = 100_000_000
"""Neighbour pairs that are kept in memory (4 bytes each); with more of them they are found again for every pick."""


class Balls:
    """For points of length 1 or any: the points within `radius` of each. Kept as lists where they fit into memory."""

    def __init__(self, points: Float[np.ndarray, "n d"], radius: float):
        self._points, self._squared = torch.from_numpy(points), radius * radius
        self._norms = self._points.square().sum(1)
        self._lists: list[np.ndarray] | None = []
        kept = 0
        for where in chunks(len(points), 1_024):
            near = self._near(where)
            kept += int(near.sum())
            if kept > EDGES:
                self._lists = None
                break
            self._lists += [np.flatnonzero(row).astype(np.int32) for row in near]

    def __getitem__(self, i: int) -> np.ndarray:
        """Positions within the radius of point i, itself included."""
        if self._lists is not None:
            return self._lists[i]
        return np.flatnonzero(self._near(slice(i, i + 1))[0])

    def degrees(self, counted: Bool[np.ndarray, " n"]) -> np.ndarray:
        """For each point, how many of the `counted` ones it covers."""
        if self._lists is not None:
            return np.array([int(counted[near].sum()) for near in self._lists], dtype=np.int64)
        found = np.empty(len(counted), dtype=np.int64)
        for where in chunks(len(counted), 1_024):
            found[where] = (self._near(where) & counted).sum(1)
        return found

    def _near(self, where: slice) -> Bool[np.ndarray, "m n"]:
        squared = torch.addmm(self._norms, self._points[where], self._points.T, alpha=-2) + self._norms[where, None]
        near: np.ndarray = (squared < self._squared).numpy()
        near[np.arange(len(near)), np.arange(where.start, where.start + len(near))] = (
            True  # itself, whatever rounding says
        )
        return near


def cover(balls: Balls, labeled: Bool[np.ndarray, " n"], budget: int) -> tuple[list[int], list[int]]:
    """Up to `budget` unlabeled positions, each covering the most of what nothing covers yet (ties: the first position).

    Ends early where everything is covered. The second list says how many each newly covers. (Yehuda et al. 2022, Alg. 1.)
    """
    uncovered = np.ones(len(labeled), dtype=bool)
    for i in np.flatnonzero(labeled).tolist():
        uncovered[balls[i]] = False
    degree = balls.degrees(uncovered)
    degree[labeled] = 0
    picks: list[int] = []
    gains: list[int] = []
    while len(picks) < budget and degree.max(initial=0) > 0:
        pick = int(degree.argmax())
        picks.append(pick)
        gains.append(int(degree[pick]))
        newly = [int(i) for i in balls[pick] if uncovered[i]]
        uncovered[newly] = False
        for i in newly:  # whoever reaches i, and i reaches as far back, loses it
            degree[balls[i]] -= 1
        degree[pick] = 0
        degree[labeled] = 0
    return picks, gains
