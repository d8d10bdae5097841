"""k-means++ seeding on outer products a (x) z, without forming one of them, and without looking at most pairs."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mcdal.selection.clusters import by_id
from mcdal.selection.k_center import chunks, first_by_id, part
from mcdal.stack import Matrix
from mcdal.values import Ids

Positions = Int[np.ndarray, " _"]

SAME = 1e-12
"""A squared distance below this share of the squared lengths is 0 but for rounding."""
DRAWS = 384
"""Candidates that are drawn, and compared with the picks, at once."""
BLOCK = 512
"""Picks of one product."""
WASTED = 1 / 3
"""Where a smaller share of the draws is taken, the bounds are far off: all of them are compared with the newest picks."""
LOWERED = 64
"""With up to so many."""


def outer_k_means_pp(
    ids: Ids,
    a: Float[Matrix, "n c"],
    z: Float[Matrix, "n d"],
    candidates: Positions,
    budget: int,
    random: np.random.Generator,
) -> tuple[list[int], list[float]]:
    """Positions of `budget` of the candidates: the largest norm first, then each with a probability in proportion to D^2.

    D^2 is the squared distance to the nearest pick (Arthur and Vassilvitskii 2007), with g = a (x) z:
    ||g - g'||^2 = |a|^2 |z|^2 + |a'|^2 |z'|^2 - 2 (a.a')(z.z'). The second list has D^2 at the time of the pick, the squared
    norm for the first. What equals a pick comes last, by id.

    D^2 only ever shrinks, so an old value w is an upper bound: a candidate drawn in proportion to w and taken with probability
    D^2 / w is drawn in proportion to D^2 (von Neumann's rejection). What is drawn is compared with all picks, the others with
    some now and then. Candidates are drawn in the order of their ids, so that the order of the rows does not matter. Memory: a
    few numbers a candidate, and blocks.
    """
    candidates = by_id(ids, candidates)
    gradients = _Gradients(a, z, candidates)
    budget = min(budget, len(candidates))
    if budget <= 0:
        return [], []
    first = first_by_id(tuple(ids[i] for i in candidates), gradients.own)
    picks, squares = [first], [float(gradients.own[first])]
    weight = np.full(len(candidates), np.inf)
    gradients.lower(weight, np.array(picks))
    seen = np.zeros(len(candidates), dtype=np.int64)
    lowered, share = 1, 1.0  # how many picks all bounds have seen, and how many of the last draws were taken
    while len(picks) < budget:
        if share < WASTED and len(picks) - lowered >= LOWERED // 2:
            gradients.lower(weight, np.array(picks[lowered:][-LOWERED:]))
            lowered = len(picks)
        weight[picks] = 0
        total = np.cumsum(weight)
        if total[-1] == 0:  # whatever is left equals a pick
            rest = np.setdiff1d(np.arange(len(candidates)), picks)[: budget - len(picks)].tolist()
            picks, squares = picks + rest, squares + [0.0] * len(rest)
            break
        drawn = np.searchsorted(total, random.random(DRAWS) * total[-1], side="right")
        drawn = np.minimum(drawn, np.flatnonzero(weight)[-1])  # rounding must not lead past the last that can be drawn
        rows, which = np.unique(drawn, return_inverse=True)
        true = np.minimum(weight[rows], gradients.nearest(rows, np.array(picks), seen[rows]))
        seen[rows] = len(picks)
        lot = random.random(DRAWS) * weight[drawn]
        weight[rows] = true
        taken, values = _accept(gradients, rows, which, true, lot, budget - len(picks))
        share = len(taken) / DRAWS
        picks += taken
        squares += values
    return [int(candidates[i]) for i in picks], squares


def _accept(
    gradients: "_Gradients",
    rows: Positions,
    which: Positions,
    true: Float[np.ndarray, " m"],
    lot: Float[np.ndarray, " k"],
    budget: int,
) -> tuple[list[int], list[float]]:
    """Those of the draws rows[which] whose D^2, to earlier picks and to those made here, is above their lot."""
    apart, true = gradients.between(rows), true.copy()
    taken: list[int] = []
    squares: list[float] = []
    for place, threshold in zip(which.tolist(), lot.tolist(), strict=True):
        if true[place] > threshold:
            taken.append(int(rows[place]))
            squares.append(float(true[place]))
            np.minimum(true, apart[place], out=true)
            true[place] = 0
            if len(taken) == budget:
                break
    return taken, squares


class _Gradients:
    """g = a (x) z of the candidates, known by what is asked of them. own: squared norms."""

    def __init__(self, a: Float[Matrix, "n c"], z: Float[Matrix, "n d"], candidates: Positions):
        self._a, self._z, self._candidates = a, z, candidates
        self.own = np.empty(len(candidates))
        for where in chunks(len(candidates), 512):  # so few that their memory is not new from the system each time
            shares, rows = (part(x, candidates[where]).double().numpy() for x in (a, z))
            self.own[where] = np.einsum("ij,ij->i", shares, shares) * np.einsum("ij,ij->i", rows, rows)

    def lower(self, weight: Float[np.ndarray, " m"], picks: Positions) -> None:
        """weight = min(weight, squared distance to these picks), in place; in float32, so with room for its rounding."""
        shares, centres = (part(x, self._candidates[picks]) for x in (self._a, self._z))
        own, norms = torch.from_numpy(self.own).float(), torch.from_numpy(self.own[picks]).float()
        room = 4 * (shares.shape[1] + centres.shape[1]) * torch.finfo(torch.float32).eps
        for where in chunks(len(self.own), 2_048):
            rows = self._candidates[where]
            inner = (part(self._a, rows) @ shares.T).mul_(part(self._z, rows) @ centres.T)
            nearest = torch.add(norms, inner, alpha=-2).amin(1) + own[where]
            bound = nearest.clamp_min(0) + room * (own[where] + norms.max())
            weight[where] = np.minimum(weight[where], bound.numpy())

    def nearest(self, rows: Positions, picks: Positions, seen: Positions) -> Float[np.ndarray, " m"]:
        """Squared distance to the nearest pick, of those that a row has not seen; infinite where there is none."""
        least = np.full(len(rows), np.inf)
        for first in range(int(seen.min()), len(picks), BLOCK):
            block = picks[first : first + BLOCK]
            behind = np.flatnonzero(seen < first + len(block))
            least[behind] = np.minimum(least[behind], self._apart(rows[behind], block).min(1))
        return least

    def between(self, rows: Positions) -> Float[np.ndarray, "m m"]:
        """Squared distances between them."""
        return self._apart(rows, rows)

    def _apart(self, rows: Positions, others: Positions) -> Float[np.ndarray, "m k"]:
        a, a_others, z, z_others = (self._wide(x, i) for x in (self._a, self._z) for i in (rows, others))
        both = self.own[rows][:, None] + self.own[others]
        inner = (a @ a_others.T).mul_(z @ z_others.T).numpy()
        apart: Float[np.ndarray, "m k"] = both - 2 * inner
        apart[apart < SAME * both] = 0
        return apart

    def _wide(self, column: Matrix, rows: Positions) -> Float[Tensor, "m _"]:
        return part(column, self._candidates[rows]).double()
