"""`make bench` fails on what is worse than it was, and tells what was missed before."""

import sys
from types import ModuleType

import pytest

from benchmarks import bench
from benchmarks.side_by_side import Check


@pytest.fixture
def measuring(monkeypatch):
    """Makes `bench.main` of one measurement that gives these lists of checks, one a call; says how often it was made."""

    def of(*turns):
        calls = []
        module = ModuleType("benchmarks.fake")
        module.checks = lambda quick: calls.append(quick) or list(turns[min(len(calls), len(turns)) - 1])
        monkeypatch.setitem(sys.modules, "benchmarks.fake", module)
        monkeypatch.setattr(bench, "MODULES", ("fake",))
        return bench.main([]), calls

    return of


FAST, SLOW = Check("x", 3.0, 2.5, "at least"), Check("x", 1.0, 2.5, "at least")


@pytest.mark.parametrize(
    ("check", "code"),
    [
        (FAST, 0),
        (SLOW, 1),
        (Check("x", 1.0, None, "at least"), 0),
        (Check("x", 2.6, 2.5, "at most", noise=0.1), 0),
        (Check("x", 2.6, 2.5, "at most", noise=0.01), 1),
        (Check("x", 5.0, 2.5, "at most"), 1),
    ],
)
def test_it_fails_where_a_ratio_misses_its_bound(measuring, capsys, check, code):
    assert measuring([FAST, check])[0] == code
    assert ("FAILED: x" in capsys.readouterr().out) == bool(code)


def test_noise_excuses_no_more_than_a_little(measuring, capsys):
    noisy = Check("x", 1.5, 2.5, "at least", noise=0.9)
    assert not noisy.holds and noisy.too_noisy
    assert not Check("x", 5.0, 2.5, "at most", noise=0.9).holds
    code, calls = measuring([noisy])
    assert code == 1 and len(calls) == 2
    assert "FAILED: x, too noisy to tell: ±90 %" in capsys.readouterr().out


def test_what_was_too_noisy_is_measured_once_more(measuring):
    noisy = Check("x", 1.5, 2.5, "at least", noise=0.9)
    code, calls = measuring([noisy], [FAST])
    assert code == 0 and calls == [True, True]
    assert measuring([noisy], [SLOW])[0] == 1


def test_a_clear_miss_is_not_measured_again(measuring):
    code, calls = measuring([SLOW], [FAST])
    assert code == 1 and len(calls) == 1


def test_a_known_miss_does_not_fail(measuring, monkeypatch):
    monkeypatch.setattr(bench, "landed", lambda: {"x": SLOW})
    assert measuring([SLOW])[0] == 0
    assert measuring([Check("x", 0.5, 2.5, "at least")])[0] == 1


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
