"""The quick ratios of choices run, and every strategy that chooses by itself has one."""

from dataclasses import replace

import pytest

from benchmarks import bench, choices
from mcdal.registry import listed, load
from mcdal.strategies.base import Scored, Strategy

pytestmark = pytest.mark.usefixtures("no_collecting")
SMALL = {"n": 240, "d": 8, "labeled": 30, "budget": 5}


def small(case):
    d = case.d if case.strategy == "batch_bald" else SMALL["d"]
    settings = case.settings | ({"width": 8} if case.strategy == "daal" else {})
    return replace(case, **SMALL | {"d": d, "settings": settings})


@pytest.mark.parametrize("case", choices.CASES, ids=lambda case: case.name)
def test_each_choice_is_made_and_compared(case):
    check = choices.choice_check(small(case), 1)
    assert check.value > 0 and check.bound == case.bound and check.must_be == "at most"


def test_every_strategy_that_chooses_by_itself_has_a_ratio():
    own = {
        name for name in listed("strategies") if load("strategies", name).select not in (Strategy.select, Scored.select)
    }
    assert own <= {case.strategy for case in choices.CASES} | set(choices.ELSEWHERE)
    assert set(choices.ELSEWHERE.values()) <= set(bench.MODULES)


@pytest.mark.parametrize("name", choices.DROPOUT)
def test_scores_under_dropout(name):
    assert choices.dropout_check(name, 2.0, 1, n=32, d=16).value > 0


def test_names_are_distinct():
    names = [case.name for case in choices.CASES]
    assert len(set(names)) == len(names)
