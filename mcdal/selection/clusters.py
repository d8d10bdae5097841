"""Clusters of vectors (k-means), and what is typical of them."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from mcdal.selection.covering import squared_lengths
from mcdal.selection.k_center import chunks, part
from mcdal.values import Ids

FULL = 50
"""Up to this many clusters KMeans; MiniBatchKMeans beyond, as in TypiClust's code."""
BATCH = 5_000
TILE = 512, 8_192
"""Points that are compared at once, with how many others."""


def by_id(ids: Ids, positions: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """The positions in the order of their ids, so that a result does not depend on the order of the rows."""
    return np.array(sorted(positions.tolist(), key=ids.__getitem__), dtype=np.int64)


def unit(vectors: Float[np.ndarray, "n d"], positions: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m d"]:
    """These rows scaled to length 1; a row of zeros stays so. Copies them in float32: memory m x d."""
    scaled = np.empty((len(positions), vectors.shape[1]), dtype=np.float32)
    for where in chunks(len(positions)):
        scaled[where] = torch.nn.functional.normalize(part(vectors, positions[where]), dim=1).numpy()
    return scaled


def k_means(
    points: Float[np.ndarray, "m d"], k: int, seed: int
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, "k d"]]:
    """Cluster of each point, and the centres. The same for the same points in the same order and seed."""
    kind = KMeans(k, n_init=1, random_state=seed % 2**32)
    if k > FULL:
        kind = MiniBatchKMeans(k, batch_size=BATCH, n_init=1, random_state=seed % 2**32)
    with steadily():
        found = kind.fit(points)
    return found.labels_.astype(np.int64), found.cluster_centers_.astype(np.float32)


@contextmanager
def steadily() -> Iterator[None]:
    """Inside, k-means gives the same on machines with few and many cores, and says nothing of empty clusters.

    Two threads everywhere: a sum of two parts is the same whichever thread ends first, one of more is not.
    """
    with threadpool_limits(2, user_api="openmp"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters: some stay empty
        yield


def typicality(points: Float[np.ndarray, "m d"], neighbours: int) -> Float[np.ndarray, " m"]:
    """1 / (mean squared distance to the `neighbours` nearest others + 1e-5) within these points (Hacohen et al. 2022).

    For clusters: work grows with m^2, memory with m + tiles. By products in float64, in which equal points are 1e-15
    apart: as exact as differences in float32, without reading `neighbours` rows for each.
    """
    k = min(neighbours, len(points) - 1)
    if k < 1:
        return np.zeros(len(points), dtype=np.float64)
    rows = torch.from_numpy(points)
    norms = squared_lengths(rows, torch.float64)
    found = np.empty(len(points))
    for where in chunks(len(points), TILE[0]):
        here, near = rows[where].double(), torch.empty(where.stop - where.start, 0, dtype=torch.float64)
        for there in chunks(len(points), TILE[1]):
            squared = torch.addmm(norms[there], here, rows[there].double().T, alpha=-2)
            own = np.arange(max(where.start, there.start), min(where.stop, there.stop))
            squared[own - where.start, own - there.start] = torch.inf
            near = torch.cat([near, squared.topk(min(k, squared.shape[1]), dim=1, largest=False).values], 1)
        if near.shape[1] > k:
            near = near.topk(k, dim=1, largest=False).values
        exact = (near + norms[where, None]).clamp_min_(0).mean(1)
        found[where] = 1 / (exact.numpy() + 1e-5)
    return found


def in_turn(queues: Iterable[list[tuple[int, float]]], budget: int) -> list[tuple[int, float]]:
    """The first of each queue, then the second of each, and so on, until there are `budget`. Asks for no queue too many."""
    read: list[list[tuple[int, float]]] = []
    taken: list[tuple[int, float]] = []
    for queue in queues:
        read.append(queue)
        taken += queue[:1]
        if len(taken) >= budget:
            return taken[:budget]
    for turn in range(1, max(map(len, read), default=0)):
        taken += [queue[turn] for queue in read if turn < len(queue)]
        if len(taken) >= budget:
            break
    return taken[:budget]
