"""Choosing by a score: the largest, the largest of each class, at random, or by lot. Ties by id, NaN refused by name."""

import hashlib
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int, Shaped

from mcdal.errors import SelectionError
from mcdal.stack import Matrix
from mcdal.values import Picks

Sampling: TypeAlias = Literal["top", "power", "softmax", "softrank", "balanced"]
Lottery: TypeAlias = Literal["top", "power", "softmax", "softrank"]
"""Those that look at scores alone."""
AT_ONCE = 8_192
"""Rows that are read together."""
SAMPLED = 4_096
"""Scores that a first bound of the largest ones is read off."""
WORTHWHILE = 4
"""Times that many scores, from which on that is quicker than a partition of all."""


def top(
    ids: Sequence[str], score: Shaped[np.ndarray, " n"], budget: int, among: Int[np.ndarray, " m"] | None = None
) -> Picks:
    """The `budget` largest scores, largest first; equal scores in the order of their ids. O(n) beside the picks themselves.

    among: the positions that may be picked, all without it. Only the ids of picks, and of what ties with the last, are read.
    """
    given = score if among is None else score[among]
    if len(given) and np.isnan(given.max()):
        refuse_nan(ids, score, among)
    budget = min(budget, len(given))
    if budget <= 0:
        return Picks((), given[:0].astype(np.float64))
    likely = _above_a_bound(given, budget)
    values = given if likely is None else given[likely]
    threshold = np.partition(values, len(values) - budget)[len(values) - budget]
    certain, tied = np.flatnonzero(values > threshold), np.flatnonzero(values == threshold)
    for positions in (likely, among):  # back to where they stand in `ids`
        if positions is not None:
            certain, tied = positions[certain], positions[tied]
    if len(certain) + len(tied) > budget:
        tied = np.array(sorted(tied.tolist(), key=ids.__getitem__)[: budget - len(certain)], dtype=np.int64)
    chosen = _ranked(ids, score, np.concatenate([certain, tied]))
    return Picks(_ids_at(ids, chosen.tolist()), score[chosen].astype(np.float64), chosen)


def _above_a_bound(score: Shaped[np.ndarray, " n"], budget: int) -> Int[np.ndarray, " m"] | None:
    """Positions of all scores of at least a bound that `budget` or more reach; None where it would not pay or none is found.

    The bound is read off some scores, evenly spaced: comparing all with it is an eighth of the work of a partition.
    """
    step = len(score) // SAMPLED
    if step < WORTHWHILE:
        return None
    some = score[::step]
    expected = budget / step
    rank = int(expected + 4 * expected**0.5 + 8)  # four standard deviations more than are needed
    if rank >= len(some) // 2:
        return None
    found = np.flatnonzero(score >= np.partition(some, len(some) - rank)[len(some) - rank])
    return found if len(found) >= budget else None


def _ranked(
    ids: Sequence[str], score: Shaped[np.ndarray, " n"], chosen: Int[np.ndarray, " b"]
) -> Int[np.ndarray, " b"]:
    """The largest score first, ties by id."""
    ordered: Int[np.ndarray, " b"] = chosen[np.argsort(score[chosen])[::-1]]
    ranked = score[ordered]
    changes = np.flatnonzero(ranked[1:] != ranked[:-1]) + 1
    if len(changes) < len(ranked) - 1:
        bounds = np.concatenate([[0], changes, [len(ranked)]])
        for run in np.flatnonzero(np.diff(bounds) > 1).tolist():
            tied = slice(bounds[run], bounds[run + 1])
            ordered[tied] = sorted(ordered[tied].tolist(), key=ids.__getitem__)
    return ordered


def _ids_at(ids: Sequence[str], positions: list[int]) -> tuple[str, ...]:
    """In one call for all of them: a call for each takes as long as finding out which they are."""
    return itemgetter(*positions)(ids) if len(positions) > 1 else tuple(ids[i] for i in positions)


def at_random(ids: Sequence[str], budget: int, seed: int, among: Int[np.ndarray, " m"] | None = None) -> Picks:
    """`budget` ids, uniform without replacement. Each id has its own number, so neither order nor shards matter.

    among: the positions that may be picked, all without it.
    """
    if among is None:
        return top(ids, uniforms(seed, ids), budget)
    score = np.zeros(len(ids))
    score[among] = uniforms(seed, map(ids.__getitem__, among.tolist()))
    return top(ids, score, budget, among)


def balanced_top(
    ids: Sequence[str],
    score: Shaped[np.ndarray, " n"],
    classes: Int[np.ndarray, " n"],
    budget: int,
    among: Int[np.ndarray, " m"] | None = None,
) -> Picks:
    """The largest score of each class, then the second largest of each, and so on: classes are even as long as they last.

    classes: index of each sample's class, such as the predicted one. Where a turn is not whole, the largest scores of it; order
    within a turn is that of scores, ties by id.
    """
    refuse_nan(ids, score, among)
    among = np.arange(len(score)) if among is None else among
    of_each = [top(ids, score, budget, among[classes[among] == c]) for c in np.unique(classes[among])]
    picks: list[tuple[int, float, str]] = []
    for each in of_each:
        picks += zip(range(len(each)), (-each.score).tolist(), each.ids, strict=True)
    first = sorted(picks)[:budget]
    return Picks(tuple(id for _, _, id in first), np.array([-lost for _, lost, _ in first], dtype=np.float64))


def most_likely(p: Float[Matrix, "n c"]) -> Int[np.ndarray, " n"]:
    """The class with the largest probability of each row, the first of equal ones. Reads in parts."""
    parts = (p[first : first + AT_ONCE].argmax(1) for first in range(0, len(p), AT_ONCE))
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def stochastic_top(
    ids: Sequence[str],
    score: Shaped[np.ndarray, " n"],
    budget: int,
    seed: int,
    sampling: Lottery,
    beta: float,
    among: Int[np.ndarray, " m"] | None = None,
) -> Picks:
    """`budget` ids without replacement, each next one in proportion to a weight that grows with its score.

    Weights (Kirsch et al. 2023, "Stochastic Batch Acquisition", Table 1): power score^beta, softmax exp(beta score), softrank
    rank^-beta with rank 1 the largest score. Drawn at once as the `budget` largest of log weight + Gumbel noise (Efraimidis and
    Spirakis 2006); an id's noise depends on the seed and the id alone. `Picks.score` is the score itself. "top" draws nothing.
    """
    if sampling == "top":
        return top(ids, score, budget, among)
    if among is not None:
        ids, score = tuple(map(ids.__getitem__, among.tolist())), score[among]
    refuse_nan(ids, score)
    first = top(ids, log_weight(ids, score.astype(np.float64), sampling, beta) + gumbel(seed, ids), budget)
    place = dict(zip(ids, score.tolist(), strict=True))
    return Picks(first.ids, np.array([place[id] for id in first.ids], dtype=np.float64))


def gumbel(seed: int, ids: Iterable[str]) -> Float[np.ndarray, " n"]:
    """Gumbel noise of each id, which depends on the seed and the id alone."""
    noise: Float[np.ndarray, " n"] = -np.log(-np.log(uniforms(seed, ids).clip(2.0**-54, 1 - 2.0**-53)))
    return noise


def log_weight(
    ids: Sequence[str], score: Float[np.ndarray, " n"], sampling: Lottery, beta: float
) -> Float[np.ndarray, " n"]:
    """Of `stochastic_top`. Each row's depends on its own score alone, but for softrank, which looks at all."""
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


def uniforms(seed: int, ids: Iterable[str]) -> Float[np.ndarray, " n"]:
    """`uniform` of each id, to the same bits in a third of the time: the hash of the seed is begun once and copied."""
    begun, digests = hashlib.blake2b(f"{seed}/".encode(), digest_size=8), bytearray()
    for id in ids:
        each = begun.copy()
        each.update(id.encode())
        digests += each.digest()
    return (np.frombuffer(digests, dtype="<u8") >> 11) / 2**53


def refuse_nan(ids: Sequence[str], score: Shaped[np.ndarray, " n"], among: Int[np.ndarray, " m"] | None = None) -> None:
    """An error that names the first sample whose score is not a number, of those `among` that are asked about."""
    given = score if among is None else score[among]
    if not (len(given) and np.isnan(given.max())):  # the largest of anything and NaN is NaN: one pass, nothing is kept
        return
    bad = np.flatnonzero(np.isnan(given))
    first = ids[int(bad[0] if among is None else among[bad[0]])]
    raise SelectionError(
        f"{len(bad)} of {len(given)} scores are NaN, the first of sample {first!r}: nothing was picked"
    )
