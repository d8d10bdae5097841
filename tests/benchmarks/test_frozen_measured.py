"""The measurement of rounds on a frozen encoder runs, and tells what one strategy costs over another."""

import pytest

from benchmarks import frozen
from mcdal.recipes import base


@pytest.fixture
def tiny(monkeypatch, no_collecting):
    for name, value in {"POOL": 300, "TEST": 60, "START": 20, "BUDGET": 10, "FEATURES": (6,), "HIDDEN": 4}.items():
        monkeypatch.setattr(frozen, name, value)
    monkeypatch.setattr(base, "HEAD_STEPS", 1)


def test_rounds_and_their_ratios(tiny):
    found = frozen.measured(("random", "margin"), ("margin",), rounds=2)
    checks, rows = [check for check, _ in found], [row for _, row in found if row]
    assert [(row["strategy"], row["hidden"]) for row in rows] == [("random", 0), ("margin", 0), ("margin", 4)]
    assert [check.name for check in checks if "/" in check.name] == [
        "a round of random / bare steps, 300 x 6",
        "a round of margin / of random, 300 x 6",
        "a round of margin, MLP of 4 / linear, 300 x 6",
    ]
    assert all(check.value > 0 for check in checks)


def test_a_slow_strategy_misses_its_ratio_though_its_seconds_hold():
    taken = {("random", 0): 0.1, ("margin", 0): 0.13, ("mcdal", 0): 2.0, ("mcdal", 256): 9.0}
    holds = {check.name.split(",")[0]: check.holds for check in frozen.ratios(taken, 0.05, 512)}
    assert holds["a round of margin / of random"] and not holds["a round of mcdal / of random"]
    assert not next(frozen.ratios({("random", 0): 9.0}, 0.05, 512)).holds
