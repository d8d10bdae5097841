"""What is refused of a selection, and by which name."""

import numpy as np
import pytest

from mcdal.errors import SelectionError
from mcdal.selection import check_picks, mask
from mcdal.selection.checks import refuse_bad_rows
from mcdal.values import Picks, Rows

ROWS = Rows(("a", "b", "c", "d"), np.array([False, True, False, False]))


def picks(*ids, scores=None):
    return Picks(ids, np.zeros(len(ids) if scores is None else scores))


@pytest.mark.parametrize(
    ("made", "budget", "message"),
    [
        (picks("c", "a", "c"), 3, "Mine picked 'c' twice"),
        (picks("c", "b"), 2, "Mine picked 'b', which is labeled already or not in the pool"),
        (picks("c", "e", "c"), 3, "Mine picked 'e', which is labeled"),
        (picks("c"), 2, "Mine picked 1 samples with 1 scores; 2 were asked for"),
        (picks("c", "a"), 1, "Mine picked 2 samples with 2 scores; 1 were"),
        (picks("c", "a", scores=1), 2, "2 samples with 1 scores"),
        (picks("c", "a"), 9, "2 samples with 2 scores; 3 were"),
    ],
)
def test_bad_picks(made, budget, message):
    with pytest.raises(SelectionError, match=message):
        check_picks(made, ROWS, budget, "Mine")


def test_sums_that_overflow_are_no_reason_to_refuse():
    ids = tuple(f"{i}" for i in range(2_000))
    vector = np.full((2_000, 3), 3e38, dtype=np.float32)
    vector[1::2] *= -1
    vector[:1_024] = 3e38
    rows = Rows(ids, np.zeros(2_000, dtype=bool), vector=vector)
    refuse_bad_rows(rows)
    for bad in (np.nan, np.inf, -np.inf):
        vector[1_500, 1] = bad
        with pytest.raises(SelectionError, match=r"features of '1500' are not finite"):
            refuse_bad_rows(rows)


def test_good_picks():
    check_picks(picks("d", "a"), ROWS, 2, "Mine")
    check_picks(picks("d", "a", "c"), ROWS, 9, "Mine")


@pytest.mark.parametrize("places", [(3, 0), (0, 3), (-1, 0), (9, 0), None])
def test_where_picks_say_they_stand_is_not_believed(places):
    """True, swapped, and out of the rows: the picks are judged by their ids alone."""
    hint = None if places is None else np.array(places, dtype=np.int64)
    assert mask(Picks(("d", "a"), np.zeros(2), hint), ROWS).tolist() == [True, False, False, True]
    check_picks(Picks(("d", "a"), np.zeros(2), hint), ROWS, 2, "Mine")
    for ids, message in (
        (("d", "d"), "'d' twice"),
        (("d", "b"), "'b', which is labeled"),
        (("x", "a"), "'x', which is"),
    ):
        with pytest.raises(SelectionError, match=message):
            check_picks(Picks(ids, np.zeros(2), hint), ROWS, 2, "Mine")
    with pytest.raises(SelectionError, match="'b', which is labeled"):
        check_picks(Picks(("b", "a"), np.zeros(2), np.array([1, 0])), ROWS, 2, "Mine")
