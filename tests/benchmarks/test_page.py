"""The page of results is the one that the results make."""

import pytest

from benchmarks import page, scale
from benchmarks.page import PAGE, RESULTS, described, made, others, row, text
from benchmarks.scale import Assumed, Rates


def test_the_page_is_current():
    assert PAGE.read_text() == text(), "run scripts/docs"


def test_every_result_is_on_the_page():
    told = text()
    assert all(f"({path.name})" in told or f"| {path.name} |" in told for path in RESULTS.glob("*.json"))


def test_versions_are_told_where_a_result_has_them():
    result = {
        "date": "2026-01-02T03:04",
        "machine": "a machine",
        "environment": {"commit": "abc", "torch": "2", "numpy": "1"},
    }
    assert made(result) == "2026-01-02, commit abc, torch 2, numpy 1, a machine"
    result["environment"] |= {"scikit-activeml": "1.0", "scikit-learn": "1.9", "device": "GPU", "precision": "float32"}
    assert made(result).endswith("numpy 1, scikit-learn 1.9, scikit-activeml 1.0, a machine; GPU, float32")
    assert made({"date": "2026-01-02"}) == "2026-01-02"


def test_a_result_that_nobody_described_is_refused(monkeypatch, tmp_path):
    assert described()["precision.json"].startswith("training speed")
    monkeypatch.setattr(page, "README", tmp_path / "README.md")
    page.README.write_text("| script | measures | result |\n| `x.py` | how fast x is | `results/x.json` |\n")
    assert "| x.json | how fast x is | 2026-01-02. `x.py` |" in others(
        [{"file": "x.json", "date": "2026-01-02", "command": "x.py"}]
    )
    with pytest.raises(ValueError, match=r"y\.json has no row"):
        others([{"file": "y.json", "date": "2026-01-02"}])


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
