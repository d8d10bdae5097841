"""Every registered strategy keeps the contract; a new one is tested without writing a test."""

from functools import partial

import pytest

from mcdal.registry import listed, load
from mcdal.strategies.mcdal import MCDAL
from mcdal.testing import (
    check_continues,
    check_leaves_task_model_alone,
    check_picks_are_valid,
    check_rows,
)

VARIANTS = {
    "mcdal: published": partial(MCDAL, published=True),
    "mcdal: alg1": partial(MCDAL, alg1=True),
    "mcdal: 4 heads, l2": partial(MCDAL, heads=4, distance="l2"),
    "mcdal: kl": partial(MCDAL, distance="kl"),
    "mcdal: no discrepancy loss": partial(MCDAL, discrepancy_loss=False),
}
EVERY = {name: load("strategies", name) for name in listed("strategies")} | VARIANTS


@pytest.mark.parametrize(
    "check",
    [check_leaves_task_model_alone, check_rows, check_picks_are_valid, check_continues],
    ids=lambda c: c.__name__,
)
@pytest.mark.parametrize("name", EVERY)
def test_contract(name, check):
    check(EVERY[name])
