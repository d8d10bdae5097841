"""Choosing by a score: the largest, at random, or the largest but for some luck. Ties by id, NaN refused by name."""

import hashlib
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Shaped

from mcdal.errors import SelectionError
from mcdal.values import Picks

Sampling: TypeAlias = Literal["top", "power", "softmax", "softrank"]


def top(ids: Sequence[str], score: Shaped[np.ndarray, " n"], budget: int) -> Picks:
    """The `budget` largest scores, largest first; equal scores in the order of their ids. O(n) beside the picks themselves."""
    refuse_nan(ids, score)
    n, budget = len(ids), min(budget, len(ids))
    if budget <= 0:
        return Picks((), score[:0].astype(np.float64))
    threshold = np.partition(score, n - budget)[n - budget]
    certain = np.flatnonzero(score > threshold)
    tied: list[int] = sorted(np.flatnonzero(score == threshold).tolist(), key=lambda i: ids[i])
    chosen: list[int] = [*certain.tolist(), *tied[: budget - len(certain)]]
    chosen.sort(key=lambda i: (-float(score[i]), ids[i]))
    return Picks(tuple(ids[i] for i in chosen), score[chosen].astype(np.float64))


def at_random(ids: Sequence[str], budget: int, seed: int) -> Picks:
    """`budget` ids, uniform without replacement. Each id has its own number, so neither order nor shards matter."""
    return top(ids, np.array([uniform(seed, id) for id in ids]), budget)


def stochastic_top(
    ids: Sequence[str], score: Shaped[np.ndarray, " n"], budget: int, seed: int, sampling: Sampling, beta: float
) -> Picks:
    """`budget` ids without replacement, each next one in proportion to a weight that grows with its score.

    Weights (Kirsch et al. 2023, "Stochastic Batch Acquisition", Table 1): power score^beta, softmax exp(beta score), softrank
    rank^-beta with rank 1 the largest score. Drawn at once as the `budget` largest of log weight + Gumbel noise (Efraimidis and
    Spirakis 2006); an id's noise depends on the seed and the id alone. `Picks.score` is the score itself. "top" draws nothing.
    """
    if sampling == "top":
        return top(ids, score, budget)
    refuse_nan(ids, score)
    noise = -np.log(-np.log(np.array([uniform(seed, id) for id in ids]).clip(2.0**-54, 1 - 2.0**-53)))
    first = top(ids, _log_weight(ids, score.astype(np.float64), sampling, beta) + noise, budget)
    place = dict(zip(ids, score.tolist(), strict=True))
    return Picks(first.ids, np.array([place[id] for id in first.ids], dtype=np.float64))


def _log_weight(
    ids: Sequence[str], score: Float[np.ndarray, " n"], sampling: Sampling, beta: float
) -> Float[np.ndarray, " n"]:
    if sampling == "softmax":
        return beta * score
    if sampling == "power":
        if (score < 0).any():
            low = int(score.argmin())
            raise SelectionError(
                f"power sampling needs scores of at least 0, and {ids[low]!r} has {score[low]:.4g}: use softmax or softrank"
            )
        # Rounding may leave a score that is 0 in truth a little above it; 0 itself is drawn last of all.
        logs: Float[np.ndarray, " n"] = np.log(score.clip(1e-300))
        return beta * logs
    order = sorted(range(len(ids)), key=lambda i: (-score[i], ids[i]))
    rank = np.empty(len(ids))
    rank[order] = np.arange(1, len(ids) + 1)
    return -beta * np.log(rank)


def uniform(seed: int, id: str) -> float:
    """A number in [0, 1) that depends on the seed and the id alone."""
    digest = hashlib.blake2b(f"{seed}/{id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53


def refuse_nan(ids: Sequence[str], score: Shaped[np.ndarray, " n"]) -> None:
    """An error that names the first sample whose score is not a number."""
    bad: Bool[np.ndarray, " n"] = np.isnan(score)
    if bad.any():
        first = ids[int(np.flatnonzero(bad)[0])]
        raise SelectionError(
            f"{int(bad.sum())} of {len(ids)} scores are NaN, the first of sample {first!r}: nothing was picked"
        )
