"""What is typical of a cluster of vectors, and turns among clusters."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, Int

from mcdal.selection.k_center import chunks, part
from mcdal.stack import Matrix, Stack
from mcdal.values import Ids

COPIED = 1 << 29
"""Bytes up to which scaled rows are kept."""
TILE = 1_024, 4_096
"""Points that are compared at once, with how many others."""


def by_id(ids: Ids, positions: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """The positions in the order of their ids, so that a result does not depend on the order of the rows."""
    return np.array(sorted(positions.tolist(), key=ids.__getitem__), dtype=np.int64)


def unit(vectors: Float[Matrix, "n d"], positions: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m d"]:
    """These rows scaled to length 1; a row of zeros stays so. Copies them in float32: memory m x d."""
    scaled = torch.empty(len(positions), vectors.shape[1])
    for where in chunks(len(positions), 128):  # so few that their memory is not new from the system each time
        torch.nn.functional.normalize(part(vectors, positions[where]), dim=1, out=scaled[where])
    return scaled.numpy()


def scaled(vectors: Float[Matrix, "n d"], positions: Int[np.ndarray, " m"]) -> Float[Matrix, "m d"]:
    """As `unit`, to the same bits, but that a large table is not copied: its rows are scaled whenever they are read."""
    if 4 * len(positions) * vectors.shape[1] <= COPIED:
        return unit(vectors, positions)
    return Stack([vectors], positions, each=_of_length_one)


def _of_length_one(rows: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    made: np.ndarray = torch.nn.functional.normalize(part(rows, slice(None)), dim=1).numpy()
    return made


def typicality(
    points: Float[np.ndarray, "m d"], neighbours: int, of: Int[np.ndarray, " p"] | None = None
) -> Float[np.ndarray, " p"]:
    """1 / (mean squared distance to the `neighbours` nearest others + 1e-5) within these points (Hacohen et al. 2022).

    of: the positions that it is asked of, all without it. For clusters: work grows with p x m, memory with m + tiles. By products
    in float64, in which equal points are 1e-15 apart: as exact as differences in float32, without reading `neighbours` rows each.
    """
    asked = np.arange(len(points)) if of is None else of
    k = min(neighbours, len(points) - 1)
    if k < 1:
        return np.zeros(len(asked), dtype=np.float64)
    rows, found = torch.from_numpy(points), np.empty(len(asked))
    for where in chunks(len(asked), TILE[0]):
        these = torch.from_numpy(asked[where])
        here, near = rows[these].double(), torch.empty(len(these), 0, dtype=torch.float64)
        for there in chunks(len(points), TILE[1]):
            others = rows[there].double()
            squared = torch.addmm(others.square().sum(1), here, others.T, alpha=-2)
            squared[these[:, None] == torch.arange(there.start, there.stop)] = torch.inf  # itself
            near = torch.cat([near, squared.topk(min(k, squared.shape[1]), dim=1, largest=False).values], 1)
        if near.shape[1] > k:
            near = near.topk(k, dim=1, largest=False).values
        exact = (near + here.square().sum(1, keepdim=True)).clamp_min_(0).mean(1)
        found[where] = 1 / (exact.numpy() + 1e-5)
    return found


def perhaps_most_typical(
    points: Float[np.ndarray, "m d"], neighbours: int, among: Int[np.ndarray, " p"]
) -> Int[np.ndarray, " _"]:
    """Those `among` that have the largest typicality, and what float32 or a sixth digit cannot tell from it: mostly one alone."""
    k = min(neighbours, len(points) - 1)
    if k < 1 or len(among) < 2:
        return among
    x = points - points.mean(0)  # there products cancel least
    lengths, apart = np.square(x).sum(1), np.empty(len(x))
    for where in chunks(len(x), TILE[0]):
        near = np.empty((where.stop - where.start, 0), dtype=np.float32)
        for there in chunks(len(x), TILE[1]):
            half = x[where] @ x[there].T  # numpy makes half of it where both are the same rows
            np.subtract(lengths[there] / 2, half, out=half)
            own = np.arange(max(where.start, there.start), min(where.stop, there.stop))
            half[own - where.start, own - there.start] = np.inf
            near = _smallest(np.concatenate([near, _smallest(half, k)], 1), k)
        apart[where] = 2 * near.mean(1) + lengths[where]
    room = 8 * x.shape[1] * np.finfo(np.float32).eps * float(lengths.max())
    least = float(apart[among].min())
    likely: Int[np.ndarray, " _"] = among[apart[among] <= least + room + 1e-6 * (abs(least) + 1e-5)]
    return likely


def with_nearest(points: Float[np.ndarray, "m d"], neighbours: int, of: Int[np.ndarray, " p"]) -> Int[np.ndarray, " _"]:
    """`of`, and all points that may be among the nearest of these, in order: their typicality is the same among them alone."""
    k, kept = min(neighbours, len(points) - 1), np.isin(np.arange(len(points)), of)
    if k < 1:
        return np.flatnonzero(kept)
    room = 4 * (points.shape[1] + 8) * np.finfo(np.float32).eps  # of two sums in float32
    for i in of:
        apart = np.square(points - points[i]).sum(1)
        apart[i] = np.inf
        kept |= apart <= np.partition(apart, k - 1)[k - 1] * (1 + room)
    return np.flatnonzero(kept)


def _smallest(values: Float[np.ndarray, "m n"], k: int) -> Float[np.ndarray, "m _"]:
    """The k smallest of each row, or all."""
    return values if values.shape[1] <= k else np.partition(values, k - 1, axis=1)[:, :k]


def in_turn(queues: Iterable[Iterable[tuple[int, float]]], budget: int) -> list[tuple[int, float]]:
    """The first of each queue, then the second of each, and so on, until there are `budget`. Asks for nothing too much."""
    begun: list[Iterator[tuple[int, float]]] = []
    taken: list[tuple[int, float]] = []
    for queue in queues:
        begun.append(iter(queue))
        taken += islice(begun[-1], 1)
        if len(taken) >= budget:
            return taken[:budget]
    before = -1
    while before < len(taken) < budget:
        before = len(taken)
        for queue in begun:
            if len(taken) < budget:
                taken += islice(queue, 1)
    return taken
