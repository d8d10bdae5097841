"""k-center greedy: the sample that is farthest from everything chosen so far, again and again."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mcdal.errors import SelectionError
from mcdal.values import Ids

CHUNK = 8_192
"""Rows of a product: what is read of a memory-mapped array at once."""


def chunks(n: int, size: int = CHUNK) -> Iterator[slice]:
    """range(n) in parts."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def part(vectors: Float[np.ndarray, "n d"], where: slice | Int[np.ndarray, " m"]) -> Float[Tensor, "m d"]:
    """Some rows as a float32 tensor, read from disk if they lie there."""
    return torch.from_numpy(np.array(vectors[where], dtype=np.float32))  # a copy: a mapping may be read-only


def squared_norms(ids: Ids, vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """||z||^2 of every row; a row that is not finite is refused by name."""
    norms = np.empty(len(vectors), dtype=np.float32)
    for where in chunks(len(vectors)):
        rows = part(vectors, where)
        norms[where] = (rows * rows).sum(1).numpy()
    bad = np.flatnonzero(~np.isfinite(norms))
    if len(bad):
        raise SelectionError(
            f"the features of {ids[bad[0]]!r} are not finite ({len(bad)} such rows): nothing was picked"
        )
    return norms


def nearest_squared(
    vectors: Float[np.ndarray, "n d"], norms: Float[np.ndarray, " n"], centres: Int[np.ndarray, " k"]
) -> Float[np.ndarray, " n"]:
    """Squared distance of every row to its nearest centre, infinite where there is none. Blocks of at most CHUNK x 1024."""
    nearest = np.full(len(vectors), np.inf, dtype=np.float32)
    for block in chunks(len(centres), 1_024):
        chosen = centres[block]
        points, lengths = part(vectors, chosen), torch.from_numpy(norms[chosen])
        for where in chunks(len(vectors)):
            squared = torch.addmm(lengths, part(vectors, where), points.T, alpha=-2).amin(1).numpy() + norms[where]
            np.minimum(nearest[where], squared, out=nearest[where])
    return nearest.clip(0)


def k_center(
    ids: Ids, vectors: Float[np.ndarray, "n d"], centres: Bool[np.ndarray, " n"], budget: int
) -> tuple[list[int], list[float]]:
    """Positions of `budget` rows, each the farthest from all centres and earlier picks (Sener and Savarese 2018, Alg. 1).

    The second list has each pick's distance at the time. A row is picked once, ties go to the smaller id. Without any centre
    the first pick is the row nearest to the mean of all, the 1-center of least squares; its distance is that to the mean.
    O((n + budget) d) memory in chunks, one product with all rows a pick.
    """
    norms = squared_norms(ids, vectors)
    picks: list[int] = []
    distances: list[float] = []
    budget = min(budget, int((~centres).sum()))
    if budget > 0 and not centres.any():
        first, distance = _most_central(ids, vectors, norms)
        picks, distances = [first], [distance]
    nearest = nearest_squared(
        vectors, norms, np.concatenate([np.flatnonzero(centres), np.array(picks, dtype=np.int64)])
    )
    nearest[centres] = -1
    nearest[picks] = -1
    while len(picks) < budget:
        pick = first_by_id(ids, nearest)
        picks.append(pick)
        distances.append(float(np.sqrt(nearest[pick])))
        _shrink(nearest, vectors, norms, pick)
        nearest[pick] = -1
    return picks, distances


def first_by_id(ids: Ids, values: Float[np.ndarray, " n"]) -> int:
    """Position of the largest value, of equal ones that of the smallest id."""
    largest = np.flatnonzero(values == values.max()).tolist()
    return min(largest, key=lambda i: ids[i])


def _shrink(
    nearest: Float[np.ndarray, " n"], vectors: Float[np.ndarray, "n d"], norms: Float[np.ndarray, " n"], pick: int
) -> None:
    """nearest = min(nearest, ||z - z_pick||^2), in place; rows that are taken (-1) stay so."""
    centre = part(vectors, np.array([pick]))[0]
    for where in chunks(len(vectors)):
        squared = norms[where] + norms[pick] - 2 * torch.mv(part(vectors, where), centre).numpy()
        np.minimum(nearest[where], squared.clip(0), out=nearest[where])


def _most_central(ids: Ids, vectors: Float[np.ndarray, "n d"], norms: Float[np.ndarray, " n"]) -> tuple[int, float]:
    total = torch.zeros(vectors.shape[1], dtype=torch.float64)
    for where in chunks(len(vectors)):
        total += part(vectors, where).double().sum(0)
    mean = (total / len(vectors)).float()
    squared = np.empty(len(vectors), dtype=np.float32)
    for where in chunks(len(vectors)):
        squared[where] = (part(vectors, where) - mean).square().sum(1).numpy()
    first = first_by_id(ids, -squared)
    return first, float(np.sqrt(squared[first]))
