"""k-means++ seeding on outer products a (x) z, without forming one of them."""

import numpy as np
import torch
from jaxtyping import Float, Int

from mcdal.selection.clusters import by_id
from mcdal.selection.k_center import chunks, first_by_id, part
from mcdal.values import Ids

SAME = 1e-6
"""A squared distance below this share of the squared lengths is 0 in float32."""


def outer_k_means_pp(
    ids: Ids,
    a: Float[np.ndarray, "n c"],
    z: Float[np.ndarray, "n d"],
    candidates: Int[np.ndarray, " m"],
    budget: int,
    random: np.random.Generator,
) -> tuple[list[int], list[float]]:
    """Positions of `budget` of the candidates: the largest norm first, then each with a probability in proportion to D^2.

    D^2 is the squared distance to the nearest pick (Arthur and Vassilvitskii 2007), with g = a (x) z:
    ||g - g'||^2 = |a|^2 |z|^2 + |a'|^2 |z'|^2 - 2 (a.a')(z.z'). One uniform number a pick, looked up in the cumulative sum
    of D^2 over the candidates in the order of their ids, so that the order of the rows does not matter. The second list has
    D^2 at the time of the pick, the squared norm for the first. Memory: a few numbers a candidate, and chunks of z.
    """
    candidates = by_id(ids, candidates)
    own = np.empty(len(candidates))
    for where in chunks(len(candidates)):
        rows, shares = part(z, candidates[where]), a[candidates[where]].astype(np.float64)
        own[where] = (shares**2).sum(1) * rows.double().square().sum(1).numpy()
    picks: list[int] = []
    squares: list[float] = []
    nearest = np.full(len(candidates), np.inf)
    while len(picks) < min(budget, len(candidates)):
        drawn = _draw(nearest, random) if picks else first_by_id(tuple(ids[i] for i in candidates), own)
        picks.append(drawn)
        squares.append(float(nearest[drawn] if len(picks) > 1 else own[drawn]))
        _shrink(nearest, own, a, z, candidates, drawn)
        nearest[picks] = 0
        if not nearest.any():  # whatever is left equals a pick: by id
            rest = [i for i in range(len(candidates)) if i not in set(picks)][: budget - len(picks)]
            picks, squares = picks + rest, squares + [0.0] * len(rest)
    return [int(candidates[i]) for i in picks], squares


def _draw(weights: Float[np.ndarray, " m"], random: np.random.Generator) -> int:
    """A position with a probability in proportion to its weight."""
    cumulative = np.cumsum(weights)
    found = int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))
    return min(found, int(np.flatnonzero(weights)[-1]))  # rounding must not lead past the last that can be drawn


def _shrink(
    nearest: Float[np.ndarray, " m"],
    own: Float[np.ndarray, " m"],
    a: Float[np.ndarray, "n c"],
    z: Float[np.ndarray, "n d"],
    candidates: Int[np.ndarray, " m"],
    drawn: int,
) -> None:
    """nearest = min(nearest, ||g - g_drawn||^2), in place."""
    share = a[candidates[drawn]].astype(np.float64)
    centre = part(z, candidates[drawn : drawn + 1])[0]
    for where in chunks(len(candidates)):
        inner = (a[candidates[where]] @ share) * torch.mv(part(z, candidates[where]), centre).numpy()
        both = own[where] + own[drawn]
        squared = both - 2 * inner
        squared[squared < SAME * both] = 0  # equal but for rounding
        np.minimum(nearest[where], squared, out=nearest[where])
