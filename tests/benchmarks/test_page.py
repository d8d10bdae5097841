"""The page of results is the one that the results make."""

from benchmarks.page import PAGE, row, text


def test_the_page_is_current():
    assert PAGE.read_text() == text(), "run scripts/docs"


def test_a_missed_bound_is_told():
    check = {
        "name": "x", "value": 0.5, "bound": 1.0, "must_be": "at least", "noise": 0.1, "unit": "times",
        "holds": False, "detail": "d",
    }  # fmt: skip
    assert row(check) == "| x | 0.5 times ± 10 % | at least 1 | **missed** d |"
