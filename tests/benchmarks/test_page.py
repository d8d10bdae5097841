"""The page of results is the one that the results make."""

from benchmarks import scale
from benchmarks.page import PAGE, row, text
from benchmarks.scale import Assumed, Rates


def test_the_page_is_current():
    assert PAGE.read_text() == text(), "run scripts/docs"


def test_what_is_derived_is_current():
    assert scale.PAGE.read_text() == scale.text(), "run scripts/docs"


def test_twice_the_machines_take_half_the_time_at_the_same_cost():
    core, node = 20.0, 5_000.0
    one, two = (scale.passes(Assumed(nodes=nodes), core, node).splitlines()[-1].split(" | ") for nodes in (10, 20))
    assert one[3] == "5.6 h" and two[3] == "2.8 h"  # of a billion images
    assert one[4] == two[4] == "$167"


def test_rows_cost_in_proportion_and_memory_as_a_line():
    steps = {
        10: {"s": {"cpu": 1.0, "peak": 100.0}},
        100: {"s": {"cpu": 20.0, "peak": 1_000.0}},
    }
    rates = Rates(1.0, 1.0, 1.0, 1.0, 1.0, steps)
    assert rates.seconds("s", 1_000) == 200.0 and rates.growth("s") == 2.0
    assert rates.gigabytes("s", 200) == 2.0


def test_a_missed_bound_is_told():
    check = {
        "name": "x", "value": 0.5, "bound": 1.0, "must_be": "at least", "noise": 0.1, "unit": "times",
        "holds": False, "detail": "d",
    }  # fmt: skip
    assert row(check) == "| x | 0.5 times ± 10 % | at least 1 | **missed** d |"
