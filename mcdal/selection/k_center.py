"""k-center greedy: the sample that is farthest from everything chosen so far, again and again."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mcdal.values import Ids

CHUNK = 8_192
"""Rows of a product: what is read of a memory-mapped array at once."""
TIE = 1e-6
"""Distances that differ by less than this share are equal but for rounding."""


def chunks(n: int, size: int = CHUNK) -> Iterator[slice]:
    """range(n) in parts."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def part(vectors: Float[np.ndarray, "n d"], where: slice | Int[np.ndarray, " m"]) -> Float[Tensor, "m d"]:
    """Some rows as a float32 tensor, read from disk if they lie there."""
    return torch.from_numpy(np.array(vectors[where], dtype=np.float32))  # a copy: a mapping may be read-only


def nearest(vectors: Float[np.ndarray, "n d"], centres: Int[np.ndarray, " k"]) -> Float[np.ndarray, " n"]:
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


def mean(vectors: Float[np.ndarray, "n d"]) -> Float[Tensor, " d"]:
    """Of the rows, added up in float64."""
    total = torch.zeros(vectors.shape[1], dtype=torch.float64)
    for where in chunks(len(vectors)):
        total += part(vectors, where).double().sum(0)
    return (total / len(vectors)).float()


def k_center(
    ids: Ids, vectors: Float[np.ndarray, "n d"], centres: Bool[np.ndarray, " n"], budget: int
) -> tuple[list[int], list[float]]:
    """Positions of `budget` rows, each the farthest from all centres and earlier picks (Sener and Savarese 2018, Alg. 1).

    The second list has each pick's distance at the time. A row is picked once; distances that differ by less than TIE are
    ties, which go to the smaller id. Without any centre the first pick is the row nearest to the mean of all, the 1-center of
    least squares; its distance is that to the mean. O((n + budget) d) memory in chunks, one pass over the rows a pick.
    """
    picks: list[int] = []
    distances: list[float] = []
    budget = min(budget, int((~centres).sum()))
    if budget > 0 and not centres.any():
        first, distance = _most_central(ids, vectors)
        picks, distances = [first], [distance]
    far = nearest(vectors, np.concatenate([np.flatnonzero(centres), np.array(picks, dtype=np.int64)]))
    far[centres] = -1
    far[picks] = -1
    while len(picks) < budget:
        pick = first_by_id(ids, far, TIE)
        picks.append(pick)
        distances.append(float(far[pick]))
        _shrink(far, vectors, pick)
        far[pick] = -1
    return picks, distances


def first_by_id(ids: Ids, values: Float[np.ndarray, " n"], tie: float = 0.0) -> int:
    """Position of the largest value, of equal ones (up to this share of it) that of the smallest id."""
    largest = values.max()
    leading = np.flatnonzero(values >= largest - tie * abs(largest)).tolist()
    return min(leading, key=lambda i: ids[i])


def _shrink(far: Float[np.ndarray, " n"], vectors: Float[np.ndarray, "n d"], pick: int) -> None:
    """far = min(far, ||z - z_pick||), in place; rows that are taken (-1) stay so.

    By differences: a product would be twice as fast, but cancels where features have a large mean, and rounds equal rows
    differently.
    """
    centre = part(vectors, np.array([pick]))
    for where in chunks(len(vectors)):
        apart = torch.cdist(part(vectors, where), centre, compute_mode="donot_use_mm_for_euclid_dist")
        np.minimum(far[where], apart[:, 0].numpy(), out=far[where])


def _most_central(ids: Ids, vectors: Float[np.ndarray, "n d"]) -> tuple[int, float]:
    about, apart = mean(vectors), np.empty(len(vectors), dtype=np.float32)
    for where in chunks(len(vectors)):
        apart[where] = (part(vectors, where) - about).norm(dim=1).numpy()
    first = first_by_id(ids, -apart, TIE)
    return first, float(apart[first])
