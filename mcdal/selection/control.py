"""A batch of which a part is drawn at random beside what a strategy picks."""

from dataclasses import replace

import numpy as np

from mcdal.selection.checks import mask
from mcdal.values import Ids, Picks, Rows


def without(rows: Rows, ids: Ids, as_labeled: bool) -> Rows:
    """The rows with these taken out of what may be picked: seen as labeled, as methods that cover the pool must, or as gone."""
    if not ids:
        return rows
    taken = mask(Picks(ids, np.zeros(len(ids))), rows)
    return replace(rows, labeled=rows.labeled | taken) if as_labeled else rows.take(np.flatnonzero(~taken))


def joined(picks: Picks, drawn: Picks, rows: Rows) -> Picks:
    """Both, the drawn ones spread evenly among the others, so that their place does not tell who labels that they are.

    A drawn one's score is the one it was measured with, 0 where the strategy measures none.
    """
    if not len(drawn):
        return picks
    score_of = dict(zip(rows.ids, rows.score.tolist(), strict=True)) if rows.score is not None else {}
    places = [((i + 0.5) / len(each), id) for each in (picks, drawn) for i, id in enumerate(each.ids)]
    score_of |= dict(zip(picks.ids, picks.score.tolist(), strict=True))
    ids = tuple(id for _, id in sorted(places))
    return Picks(ids, np.array([score_of.get(id, 0.0) for id in ids], dtype=np.float64), searched=picks.searched)
