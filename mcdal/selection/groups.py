"""At most so many of a kind in one batch: near-duplicates, such as frames of one sequence, are worth little beside each other."""

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from mcdal.errors import SelectionError
from mcdal.values import Picks, Rows


def within_groups(
    choose: Callable[[Rows, int], Picks],
    rows: Rows,
    budget: int,
    group: Mapping[str, str],
    limit: int,
    as_labeled: bool,
) -> Picks:
    """`budget` picks of `choose`, at most `limit` of each group. SelectionError where the groups do not have as many.

    group: that of each row's id. choose: picks of the rows that are not labeled, most wanted first; asked again without the
    groups that are full. as_labeled: whether it then sees earlier picks as labeled, as methods that cover the pool must; else
    as gone. For methods that rank rows one by one it is the ranking with the rows left out whose group is full.
    """
    free = Counter(group[rows.ids[i]] for i in rows.free().tolist())
    budget = min(budget, sum(free.values()))
    possible = sum(min(limit, count) for count in free.values())
    if possible < budget:
        raise SelectionError(
            f"protocol.per_group = {limit}: the {len(free)} groups with unlabeled samples have room for {possible} of the "
            f"{budget} that this round asks for: raise it, lower protocol.budget, or give finer groups"
        )
    taken: dict[str, float] = {}
    used: Counter[str] = Counter()
    while len(taken) < budget:
        picks = choose(_left(rows, taken, used, group, limit, as_labeled), budget - len(taken))
        for id, score in zip(picks.ids, picks.score.tolist(), strict=True):
            if used[group[id]] < limit:
                used[group[id]] += 1
                taken[id] = score
    return Picks(tuple(taken), np.array(list(taken.values()), dtype=np.float64))


def _left(
    rows: Rows, taken: Mapping[str, float], used: Counter[str], group: Mapping[str, str], limit: int, as_labeled: bool
) -> Rows:
    """What may still be picked, and what is labeled or counts as it."""
    if not taken:
        return rows
    labeled = rows.labeled.copy()
    kept = np.ones(len(rows.ids), dtype=bool)
    for i in rows.free().tolist():
        id = rows.ids[i]
        if id in taken:
            labeled[i] = kept[i] = as_labeled
        elif used[group[id]] >= limit:
            kept[i] = False
    positions = np.flatnonzero(kept)
    return Rows(
        tuple(map(rows.ids.__getitem__, positions.tolist())),
        labeled[positions],
        *(
            None if column is None else column[positions]
            for column in (rows.score, rows.vector, rows.probabilities, rows.y)
        ),
    )
