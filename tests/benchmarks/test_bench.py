"""`make bench` fails on what is worse than it was, and tells what was missed before."""

import pytest

from benchmarks import bench
from benchmarks.side_by_side import Check


@pytest.mark.parametrize(
    ("value", "before", "must_be", "known"),
    [
        (19.0, 18.0, "at most", True),
        (25.0, 18.0, "at most", False),
        (19.0, 9.0, "at most", False),
        (2.7, 2.8, "at least", True),
        (2.0, 2.8, "at least", False),
        (2.7, 5.5, "at least", False),
    ],
)
def test_a_known_miss_is_told_and_a_worse_one_fails(value, before, must_be, known):
    bound = 12.0 if must_be == "at most" else 5.0
    assert bench.as_landed(Check("x", value, bound, must_be), Check("x", before, bound, must_be)) == known
    assert not bench.as_landed(Check("x", value, bound, must_be), None)


def test_the_committed_checks_are_found():
    names = bench.landed()
    assert any("MCDAL" in name for name in names)
    assert all(check.bound is not None for check in names.values())


def test_an_unknown_name_is_refused(capsys):
    assert bench.main(["nothing"]) == 2
    assert "no measurement is called nothing" in capsys.readouterr().err
