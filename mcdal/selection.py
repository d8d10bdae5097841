"""Choosing rows: pure functions over ids and numbers that a strategy calls. Ties are broken by id, NaN is refused by name."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Shaped

from mcdal.errors import SelectionError
from mcdal.values import Ids, Picks, Rows


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


def check_picks(picks: Picks, rows: Rows, budget: int, who: str) -> None:
    """Raises SelectionError unless there are `budget` ids (or all that are left), each once, each in the pool and unlabeled."""
    unlabeled = {id for id, labeled in zip(rows.ids, rows.labeled.tolist(), strict=True) if not labeled}
    expected = min(budget, len(unlabeled))
    seen: set[str] = set()
    for id in picks.ids:
        if id in seen:
            raise SelectionError(f"{who} picked {id!r} twice")
        if id not in unlabeled:
            raise SelectionError(f"{who} picked {id!r}, which is labeled already or not in the pool")
        seen.add(id)
    if len(picks) != expected or len(picks.score) != expected:
        raise SelectionError(
            f"{who} picked {len(picks)} samples with {len(picks.score)} scores; {expected} were asked for"
        )


def labeled_rows(ids: Ids, labeled_ids: frozenset[str]) -> Bool[np.ndarray, " n"]:
    """Which of `ids` have a label, as the mask that `Rows` carries."""
    return np.fromiter((id in labeled_ids for id in ids), dtype=bool, count=len(ids))
