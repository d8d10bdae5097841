"""Where k-means begins: greedy k-means++ whose candidates are drawn, and compared with the points, many at once."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

POOL = 256
"""Candidates that are compared with all points in one product."""
TRIED = 8
"""Candidates for each pick."""
SAME = 1e-6
"""A squared distance below this share of the squared lengths is 0 but for rounding."""


def greedy_k_means_pp(x: Float[Tensor, "n d"], k: int, random: np.random.Generator) -> Int[np.ndarray, " _"]:
    """Positions of k points, each of which lowers the sum of D^2 the most among some that were drawn in proportion to D^2.

    D^2 is the squared distance to the nearest pick (Arthur and Vassilvitskii 2007, with their greedy choice among several); the
    first is drawn evenly. Candidates are drawn for many picks together, and those that were not the best stay in the running:
    what one lowers the sum by can only shrink, so an old value is an upper bound, and few have to be looked at again. Fewer
    than k where all points equal a pick. Products cancel least where x is about its mean. Memory: POOL numbers a point.
    """
    own = x.square().sum(1)
    first = int(random.integers(len(x)))
    picks = [first]
    squared = _apart(x, own, np.array([first]))[0].numpy()
    _settle(squared, own.numpy(), first)
    while len(picks) < k:
        total = np.cumsum(squared, dtype=np.float64)
        if total[-1] == 0:
            break
        drawn = np.searchsorted(total, random.random(POOL) * total[-1], side="right")
        drawn = np.unique(np.minimum(drawn, np.flatnonzero(squared)[-1]))  # rounding must not lead past the last
        picks += _best(_apart(x, own, drawn), drawn, squared, own.numpy(), min(POOL // TRIED, k - len(picks)))
    return np.array(picks)


def _best(
    apart: Float[Tensor, "m n"],
    drawn: Int[np.ndarray, " m"],
    squared: Float[np.ndarray, " n"],
    own: Float[np.ndarray, " n"],
    count: int,
) -> list[int]:
    """Up to `count` of the drawn, one by one that which lowers the sum of `squared` the most; lowers it, in place."""
    away = apart.numpy()
    gain = np.array([_lowered(squared, row) for row in away])
    picks: list[int] = []
    while len(picks) < count:
        seen = np.zeros(len(drawn), dtype=bool)
        while not seen[best := int(gain.argmax())]:
            gain[best], seen[best] = _lowered(squared, away[best]) if squared[drawn[best]] else 0, True
        if gain[best] <= 0:
            break
        np.minimum(squared, away[best], out=squared)
        _settle(squared, own, int(drawn[best]))
        picks.append(int(drawn[best]))
    return picks


def _lowered(squared: Float[np.ndarray, " n"], away: Float[np.ndarray, " n"]) -> float:
    """How much less the sum would be with another pick, at these squared distances."""
    return float(np.maximum(squared - away, 0).sum())


def _settle(squared: Float[np.ndarray, " n"], own: Float[np.ndarray, " n"], pick: int) -> None:
    """What equals the pick but for rounding is at a distance of 0 from it."""
    squared[squared <= SAME * (own + own[pick])] = 0
    squared[pick] = 0


def _apart(x: Float[Tensor, "n d"], own: Float[Tensor, " n"], which: Int[np.ndarray, " m"]) -> Float[Tensor, "m n"]:
    """Squared distances of these points to all."""
    chosen = torch.from_numpy(which)
    return torch.addmm(own, x[chosen], x.T, alpha=-2).add_(own[chosen, None])
