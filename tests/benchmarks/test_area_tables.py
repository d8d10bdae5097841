"""Seeds and strategies that are added to a table of areas."""

import copy

import pytest

from benchmarks import area_tables


def found(curves, commit="one", **rows):
    head = {"command": "areas.py", "date": "2026-01-01", "environment": {"commit": commit}, "labels": [10, 20, 30]}
    measured = {name: {"classes_a_batch": 4.0, "seconds_a_round": 1.0} | rows.get(name, {}) for name in curves}
    return area_tables.table(head | {"settings": {}, "failed": {}}, measured, curves)


FIRST = {"random": {"0": [0.1, 0.2, 0.3], "1": [0.2, 0.2, 0.2]}, "mine": {"0": [0.1, 0.3, 0.5], "1": [0.2, 0.4, 0.4]}}


def test_the_area_is_the_mean_height_and_its_difference_is_paired():
    mine = found(FIRST)["strategies"]["mine"]
    assert mine["area"] == pytest.approx((0.3 + 0.35) / 2)
    assert mine["difference"] == pytest.approx((0.1 + 0.15) / 2)
    half = 12.706 * 0.025  # t of one degree of freedom, times the standard error of .1 and .15
    assert (mine["low"], mine["high"]) == pytest.approx((0.125 - half, 0.125 + half), abs=1e-4)
    assert mine["wins"] == 2


def test_seeds_and_strategies_are_added_to_those_that_are_there():
    more = {"random": {"1": [0.2, 0.2, 0.2], "2": [0.3, 0.3, 0.3]}, "other": {"2": [0.3, 0.3, 0.4]}}
    both = area_tables.added(found(FIRST), found(more, "two", random={"classes_a_batch": 7.0}))
    assert list(both["curves"]["random"]) == ["0", "1", "2"] and set(both["strategies"]) == {"random", "mine", "other"}
    assert both["strategies"]["mine"] == found(FIRST)["strategies"]["mine"]
    assert both["strategies"]["random"]["seeds"] == 3
    assert both["strategies"]["random"]["classes_a_batch"] == 5.0  # of 4, 4 and 7
    assert [part["commit"] for part in both["parts"]] == ["one", "two"]


def test_what_does_not_agree_is_refused():
    other = copy.deepcopy(FIRST)
    other["mine"]["1"][2] = 0.45
    with pytest.raises(SystemExit, match=r"mine, seed 1: \[0.2, 0.4, 0.45\] now, and \[0.2, 0.4, 0.4\] in the result"):
        area_tables.added(found(FIRST), found(other))
    with pytest.raises(SystemExit, match="play a seed of Random"):
        area_tables.added(found(FIRST), found({"random": {"7": [0.2, 0.2, 0.2]}}))
    with pytest.raises(SystemExit, match="labels"):
        area_tables.added(found(FIRST), found(FIRST) | {"labels": [1, 2, 3]})
