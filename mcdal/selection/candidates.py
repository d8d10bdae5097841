"""A choice from more rows than fit: the method among those with the largest scores."""

import numpy as np
from jaxtyping import Float

from mcdal.errors import SelectionError
from mcdal.selection.parts import Choose, drawn
from mcdal.selection.top import top
from mcdal.streams import stream
from mcdal.values import Picks, Rows

AT_ONCE = 8_192
"""Rows of probabilities that are read together."""


def of_candidates(choose: Choose, rows: Rows, budget: int, count: int, labeled: int, seed: int) -> Picks:
    """`budget` of the `count` rows without a label that score the most. labeled: how many labeled rows it sees, drawn by lot.

    The score is what the strategy measured, such as MCDAL's discrepancy, or else the margin of the class probabilities.
    """
    first = top(rows.ids, _score(rows), count, rows.free()).places
    known = drawn(rows, np.flatnonzero(rows.labeled), labeled, stream(seed, "labeled"))
    chosen = np.empty(0, dtype=np.int64) if first is None else first
    return choose(rows.take(np.sort(np.concatenate([known, chosen]))), min(budget, len(chosen)))


def _score(rows: Rows) -> Float[np.ndarray, " n"]:
    if rows.score is not None:
        return rows.score
    if rows.probabilities is None:
        raise SelectionError(
            "search.how = candidates: the strategy measures neither a score nor probabilities, so nothing says which rows are "
            "candidates: take partition, or exact"
        )
    score = np.empty(len(rows.ids))
    for first in range(0, len(score), AT_ONCE):
        largest = np.sort(rows.probabilities[first : first + AT_ONCE].astype(np.float64), axis=1)[:, -2:]
        score[first : first + AT_ONCE] = 1 - (largest[:, -1] - largest[:, 0])
    return score
