"""Choosing rows, against sorting everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcdal.errors import SelectionError
from mcdal.measuring import select
from mcdal.selection import at_random, top, uniform
from mcdal.strategies.margin import Margin
from mcdal.strategies.random import Random
from mcdal.values import Rows


@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0, float("inf"), -float("inf")]), min_size=1, max_size=40),
    st.integers(1, 45),
)
def test_top_is_sorting_by_score_then_id(scores, budget):
    ids = tuple(f"s{(7 * i) % len(scores):02d}" for i in range(len(scores))) if len(scores) % 7 else None
    ids = ids or tuple(f"s{i:02d}" for i in reversed(range(len(scores))))
    picks = top(ids, np.array(scores), budget)
    expected = sorted(zip([-s for s in scores], ids, strict=True))[:budget]
    assert picks.ids == tuple(id for _, id in expected)
    assert picks.score.tolist() == [-s for s, _ in expected]


def test_nan_is_refused_by_name():
    with pytest.raises(SelectionError, match="1 of 3 scores are NaN, the first of sample 'b'"):
        top(("a", "b", "c"), np.array([1.0, np.nan, 2.0]), 1)


def test_random_is_a_function_of_seed_and_id():
    ids = tuple(f"image {i}" for i in range(2_000))
    picks = at_random(ids, 500, seed=3)
    assert set(at_random(ids[::-1], 500, seed=3).ids) == set(picks.ids)
    # The picks among a shard are those of the whole that lie in it.
    shard = set(ids[:1_000])
    inside = [id for id in picks.ids if id in shard]
    assert list(at_random(ids[:1_000], len(inside), seed=3).ids) == inside
    assert set(at_random(ids, 500, seed=4).ids) != set(picks.ids)


def test_random_is_uniform():
    """Each of 20 ids is among 5 of them in a quarter of 4,000 draws: within 4 standard deviations."""
    ids = tuple(f"{i}" for i in range(20))
    counts = {id: 0 for id in ids}  # noqa: C420
    for seed in range(4_000):
        for id in at_random(ids, 5, seed).ids:
            counts[id] += 1
    assert max(abs(c - 1_000) for c in counts.values()) < 4 * (4_000 * 0.25 * 0.75) ** 0.5
    assert 0 <= uniform(0, "a") < 1


@pytest.mark.parametrize("budget", [0, -3])
def test_a_budget_below_one_is_refused(budget):
    rows = Rows(("a", "b"), np.array([False, False]), np.array([0.1, 0.2]))
    with pytest.raises(SelectionError, match=f"a budget of {budget} asks for nothing"):
        select(Margin(), rows, budget)


def test_a_strategy_without_scores_says_what_to_override():
    rows = Rows(("a", "b"), np.array([False, False]))
    with pytest.raises(SelectionError, match="Margin measures no score: override"):
        select(Margin(), rows, 1)
    assert len(select(Random(), rows, 1)) == 1
