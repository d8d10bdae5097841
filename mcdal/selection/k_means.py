"""A batch spread over candidates by k-means: the candidate nearest to each of `budget` centres."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from mcdal.selection.clusters import by_id, unit
from mcdal.selection.k_center import chunks
from mcdal.selection.lloyd import k_means
from mcdal.selection.top import at_random
from mcdal.stack import Matrix
from mcdal.streams import stream
from mcdal.values import Ids, Picks, Rows

Positions = Int[np.ndarray, " _"]

FITTED = 50_000
"""Candidates that the centres are fitted to: all, or so many drawn by lot. All are compared with the centres."""


def among_candidates(rows: Rows, candidate: Bool[np.ndarray, " n"], budget: int, seed: int) -> Picks:
    """`budget` unlabeled rows: candidates spread by k-means; all of them where they are too few, and others by lot.

    Vectors are scaled to length 1. `score` is how many candidates a pick stands for, those of its cluster; largest clusters
    first. Candidates that are drawn by lot because clusters are empty (equal vectors) score 1, others that fill up 0.
    """
    assert rows.vector is not None
    candidates = by_id(rows.ids, np.flatnonzero(candidate & ~rows.labeled))
    others = np.flatnonzero(~candidate & ~rows.labeled)
    if len(candidates) > budget:
        picks, size = spread(rows.ids, rows.vector, candidates, budget, seed)
    else:
        picks, size = candidates, np.ones(len(candidates), dtype=np.int64)
    for rest, score in ((candidates, 1), (others, 0)):
        rest = np.setdiff1d(rest, picks)
        drawn = _by_lot(rows.ids, rest, budget - len(picks), seed)
        picks = np.concatenate([picks, drawn])
        size = np.concatenate([size, np.full(len(drawn), score)])
    return Picks(tuple(rows.ids[i] for i in picks), size.astype(np.float64))


def spread(
    ids: Ids, vectors: Float[Matrix, "n d"], candidates: Positions, k: int, seed: int
) -> tuple[Positions, Int[np.ndarray, " _"]]:
    """The candidate nearest to each of k centres among those of its cluster, and the size of each cluster, largest first.

    candidates: in the order of their ids, by which ties are broken. Fewer than k where clusters stay empty: where candidates
    are fewer than k or equal each other. Memory: a copy of the `FITTED` rows, and chunks of the others.
    """
    sample = by_id(ids, _by_lot(ids, candidates, FITTED, seed)) if len(candidates) > FITTED else candidates
    centres = torch.from_numpy(k_means(unit(vectors, sample), min(k, len(sample)), seed)[1])
    cluster = np.empty(len(candidates), dtype=np.int64)
    distance = np.empty(len(candidates))
    for where in chunks(len(candidates), 4_096):
        x = torch.from_numpy(unit(vectors, candidates[where]))
        nearest = torch.addmm(centres.square().sum(1), x, centres.T, alpha=-2).argmin(1)
        cluster[where] = nearest.numpy()
        distance[where] = (x - centres[nearest]).double().square().sum(1).numpy()
    order = np.lexsort((np.arange(len(candidates)), distance, cluster))
    found, first, size = np.unique(cluster[order], return_index=True, return_counts=True)
    picks = order[first]
    ranked = np.lexsort((picks, -size))
    assert len(found) == len(ranked)
    return candidates[picks[ranked]], size[ranked]


def _by_lot(ids: Ids, positions: Positions, count: int, seed: int) -> Positions:
    if count == 0:
        return np.empty(0, dtype=np.int64)  # a number of its own for each id would be drawn for nothing
    place = {ids[i]: i for i in positions.tolist()}
    drawn = at_random(tuple(place), count, stream(seed, "by lot")).ids
    return np.array([place[id] for id in drawn], dtype=np.int64)
