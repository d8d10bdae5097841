"""What must hold of every selection, whoever made it."""

from itertools import compress

import numpy as np
from jaxtyping import Bool, Int

from mcdal.errors import SelectionError
from mcdal.selection.k_center import widened
from mcdal.selection.top import refuse_nan
from mcdal.values import Ids, Picks, Rows

PART = 1_024
"""Rows that are looked at together: so few that the memory of a copy is not new from the system each time."""


def check_picks(picks: Picks, rows: Rows, budget: int, who: str) -> None:
    """Raises SelectionError unless there are `budget` ids (or all that are left), each once, each in the pool and unlabeled."""
    free = _unlabeled_among(picks, rows)
    if len(free) < len(picks.ids):
        _name_the_first(picks.ids, free, who)
    expected = min(budget, int(np.count_nonzero(~rows.labeled)))
    if len(picks) != expected or len(picks.score) != expected:
        raise SelectionError(
            f"{who} picked {len(picks)} samples with {len(picks.score)} scores; {expected} were asked for"
        )


def _unlabeled_among(picks: Picks, rows: Rows) -> set[str]:
    """The picked ids that are in the pool and unlabeled."""
    places = _places(picks, rows)
    return set(map(rows.ids.__getitem__, places[~rows.labeled[places]].tolist()))


def mask(picks: Picks, rows: Rows) -> Bool[np.ndarray, " n"]:
    """Which rows were picked."""
    picked = np.zeros(len(rows.ids), dtype=bool)
    picked[_places(picks, rows)] = True
    return picked


def _places(picks: Picks, rows: Rows) -> Int[np.ndarray, " _"]:
    """Where the picks stand: looked up if they do not say so truly."""
    if picks.places is not None and _stand_there(picks.ids, picks.places, rows.ids):
        return picks.places
    there = map(set(picks.ids).__contains__, rows.ids)  # one look at each id of the pool, nothing built of them
    return np.fromiter(compress(range(len(rows.ids)), there), dtype=np.int64)


def _stand_there(picked: Ids, places: Int[np.ndarray, " _"], ids: Ids) -> bool:
    if len(places) != len(picked) or not ((places >= 0) & (places < len(ids))).all():
        return False
    return all(map(str.__eq__, map(ids.__getitem__, places.tolist()), picked))


def _name_the_first(picked: Ids, free: set[str], who: str) -> None:
    seen: set[str] = set()
    for id in picked:
        if id in seen:
            raise SelectionError(f"{who} picked {id!r} twice")
        if id not in free:
            raise SelectionError(f"{who} picked {id!r}, which is labeled already or not in the pool")
        seen.add(id)


def refuse_bad_rows(rows: Rows) -> None:
    """An error that names the first sample whose score, vector or probabilities are not finite in float32. Reads in parts."""
    if rows.score is not None:
        refuse_nan(rows.ids, rows.score)
    for name, values in (("features", rows.vector), ("probabilities", rows.probabilities)):
        for start in range(0, 0 if values is None else len(values), PART):
            assert values is not None
            with np.errstate(
                over="ignore", invalid="ignore"
            ):  # too large for float32, in which all is computed: not finite
                rows_here = widened(values[start : start + PART]).astype(np.float32, copy=False)
                if np.isfinite(rows_here.sum()):  # then each number is, and one sum is found sooner than each is asked
                    continue
            bad = np.flatnonzero(~np.isfinite(rows_here).all(axis=1))
            if len(bad):
                raise SelectionError(f"the {name} of {rows.ids[start + bad[0]]!r} are not finite: nothing was picked")
