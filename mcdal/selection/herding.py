"""Greedy coverage with a kernel: pick what brings the most weight of the pool closest to a pick."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float

from mcdal.selection.k_center import chunks

NARROW = 0.1
"""A bandwidth below this share of the longest point is beyond what products in float32 resolve: differences are taken."""
TIE = 1e-5
"""Gains that differ by less than this share of the largest are ties: two points that are near to each other alone always gain
the same, and rounding must not decide."""


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
    stale gain are computed again (Minoux 1978): the picks are those of the full search. Memory: a few numbers a point and
    blocks of 512 x n.
    """
    rows, free = torch.from_numpy(points), np.flatnonzero(~labeled)
    norms, w = rows.square().sum(1), torch.from_numpy(weight.astype(np.float32))
    best = torch.zeros(len(points))
    narrow = bandwidth < NARROW * float(norms.max().sqrt())

    def kernel(where: np.ndarray) -> torch.Tensor:
        chosen = torch.from_numpy(where)
        if narrow:
            squared = torch.cdist(rows[chosen], rows, compute_mode="donot_use_mm_for_euclid_dist").square()
        else:
            squared = torch.addmm(norms, rows[chosen], rows.T, alpha=-2) + norms[chosen, None]
        k = torch.exp(-squared.clamp_min(0) / bandwidth**2)
        k[torch.arange(len(where)), chosen] = 1
        return k

    def gains(where: np.ndarray) -> np.ndarray:
        return ((kernel(where) - best).clamp_min(0) @ w).double().numpy() / len(points)

    centres = np.flatnonzero(labeled)
    for part in chunks(len(centres), 512):
        best = torch.maximum(best, kernel(centres[part]).amax(0))
    gain = np.full(len(points), -np.inf)
    for part in chunks(len(free), 512):
        gain[free[part]] = gains(free[part])
    picks: list[int] = []
    reached: list[float] = []
    while len(picks) < min(budget, len(free)):
        pick = _refreshed(gain, gains)
        picks.append(pick)
        reached.append(float(gain[pick]))
        gain[pick] = -np.inf
        best = torch.maximum(best, kernel(np.array([pick]))[0])
    return picks, reached


def nearest_pair(points: Float[np.ndarray, "l d"]) -> float | None:
    """The smallest distance above 1e-3 between two of these points, of length 1; None where there is none.

    What is closer is the same image twice or nearly so, and says nothing about how far apart images are.
    """
    rows = torch.from_numpy(points)
    least = float("inf")
    for part in chunks(len(rows), 1_024):
        apart = torch.cdist(rows[part], rows, compute_mode="donot_use_mm_for_euclid_dist")  # exact where it is small
        least = min(least, float(apart[apart > 1e-3].min())) if (apart > 1e-3).any() else least
    return least if least < float("inf") else None


def _refreshed(gain: Float[np.ndarray, " n"], gains: Callable[[np.ndarray], np.ndarray]) -> int:
    """The first position of the largest true gain; stale ones are brought up to date in place, as few as are needed."""
    fresh = np.zeros(len(gain), dtype=bool)
    size = 16
    while True:
        largest = gain.max()
        leading = np.flatnonzero(gain >= largest - TIE * largest)
        if fresh[leading].all():
            return int(leading[0])
        few = np.argpartition(-gain, min(size, len(gain) - 1))[:size]
        stale = np.union1d(few, leading)
        stale = stale[~fresh[stale] & (gain[stale] > -np.inf)]
        # In the blocks' own precision a refreshed gain may come out above its bound by a last bit; it must not grow.
        for part in chunks(len(stale), 512):
            gain[stale[part]] = np.minimum(gain[stale[part]], gains(stale[part]))
        fresh[stale] = True
        size = min(2 * size, 512)
