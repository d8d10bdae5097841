"""What must hold of every selection, whoever made it."""

import numpy as np
from jaxtyping import Bool

from mcdal.errors import SelectionError
from mcdal.selection.top import refuse_nan
from mcdal.values import Ids, Picks, Rows


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


def refuse_bad_rows(rows: Rows) -> None:
    """An error that names the first sample whose score, vector or probabilities are not finite in float32. Reads in parts."""
    if rows.score is not None:
        refuse_nan(rows.ids, rows.score)
    for name, values in (("features", rows.vector), ("probabilities", rows.probabilities)):
        for start in range(0, 0 if values is None else len(values), 8_192):
            assert values is not None
            with np.errstate(over="ignore"):  # too large for float32, in which all is computed: told as not finite
                part = values[start : start + 8_192].astype(np.float32, copy=False)
            bad = np.flatnonzero(~np.isfinite(part).all(axis=1))
            if len(bad):
                raise SelectionError(f"the {name} of {rows.ids[start + bad[0]]!r} are not finite: nothing was picked")
