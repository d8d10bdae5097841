"""Choosing rows, against sorting everything."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from mcdal.errors import SelectionError
from mcdal.measuring import select
from mcdal.selection import at_random, balanced_top, stochastic_top, top, uniform, uniforms
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


@given(st.integers(-(2**70), 2**70), st.lists(st.text(st.characters(codec="utf-8"), max_size=200), max_size=20))
def test_numbers_of_many_ids_are_those_of_each(seed, ids):
    found = uniforms(seed, ids)
    assert found.dtype == np.float64 and found.tolist() == [uniform(seed, id) for id in ids]


def test_random_among_some_is_random_of_them():
    ids, some = tuple(f"image {i}" for i in range(300)), np.arange(7, 300, 3)
    among, alone = at_random(ids, 20, 5, some), at_random([ids[i] for i in some], 20, 5)
    assert among.ids == alone.ids and among.score.tolist() == alone.score.tolist()
    assert [ids[i] for i in among.places] == list(among.ids)
    assert at_random(ids, 20, 5, np.arange(0)).ids == ()


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


SCORES = {"d": 0.1, "a": 0.4, "c": 0.2, "e": 0.8, "b": 0.4, "f": 0.05}


def weights(sampling, beta):
    """Table 1 of Kirsch et al. 2023, by id; equal scores are ranked by id."""
    if sampling == "power":
        return {id: s**beta for id, s in SCORES.items()}
    if sampling == "softmax":
        return {id: math.exp(beta * s) for id, s in SCORES.items()}
    ranked = sorted(SCORES, key=lambda id: (-SCORES[id], id))
    return {id: (ranked.index(id) + 1) ** -beta for id in SCORES}


def drawn(budget, seed, sampling, beta, ids=tuple(SCORES)):
    return stochastic_top(ids, np.array([SCORES[id] for id in ids]), budget, seed, sampling, beta)


@pytest.mark.parametrize("sampling", ["power", "softmax", "softrank"])
@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_a_lot_is_the_largest_log_weight_plus_gumbel_noise(sampling, beta):
    w = weights(sampling, beta)
    for seed in range(20):
        key = {id: math.log(w[id]) - math.log(-math.log(uniform(seed, id))) for id in SCORES}
        picks = drawn(4, seed, sampling, beta)
        assert picks.ids == tuple(sorted(SCORES, key=lambda id: -key[id])[:4])
        assert picks.score.tolist() == [SCORES[id] for id in picks.ids]  # the score, not the lot


@pytest.mark.parametrize(("sampling", "beta"), [("power", 1.0), ("power", 2.0), ("softmax", 4.0), ("softrank", 1.0)])
def test_the_first_two_picks_come_in_proportion_to_the_weights(sampling, beta):
    """Chi-squared over 4,000 seeds: of the first pick, and of the second where the first was "e" (without replacement)."""
    w = weights(sampling, beta)
    pairs = [drawn(2, seed, sampling, beta).ids for seed in range(4_000)]
    firsts = [first for first, _ in pairs]
    seconds = [second for first, second in pairs if first == "e"]
    for seen, among in ((firsts, set(SCORES)), (seconds, set(SCORES) - {"e"})):
        total = sum(w[id] for id in among)
        expected = {id: len(seen) * w[id] / total for id in among}
        statistic = sum((seen.count(id) - expected[id]) ** 2 / expected[id] for id in among)
        assert statistic < chi2.ppf(0.999, len(among) - 1)


@pytest.mark.parametrize("sampling", ["top", "power", "softmax", "softrank"])
def test_a_lot_does_not_depend_on_the_order_of_the_rows(sampling):
    for seed in range(20):
        picks = drawn(3, seed, sampling, 1.0)
        assert drawn(3, seed, sampling, 1.0, ids=tuple(sorted(SCORES, reverse=True))).ids == picks.ids
    different = {drawn(3, seed, sampling, 1.0).ids for seed in range(20)}
    assert len(different) == 1 if sampling == "top" else len(different) > 10


def test_a_beta_of_0_is_random_and_a_large_one_is_top():
    for sampling in ("power", "softmax", "softrank"):
        for seed in range(20):
            assert drawn(3, seed, sampling, 0.0).ids == at_random(tuple(SCORES), 3, seed).ids
    for seed in range(20):
        assert drawn(6, seed, "softrank", 1e4).ids == drawn(6, seed, "top", 1.0).ids
        assert drawn(6, seed, "power", 1e4).score.tolist() == drawn(6, seed, "top", 1.0).score.tolist()


def naive_turns(ids, score, classes, budget):
    """Class by class, the best of each; then the second best of each."""
    left = {c: sorted((i for i, k in enumerate(classes) if k == c), key=lambda i: (-score[i], ids[i])) for c in classes}
    picks = []
    while len(picks) < budget and any(left.values()):
        turn = [left[c].pop(0) for c in left if left[c]]
        picks += sorted(turn, key=lambda i: (-score[i], ids[i]))
    return [ids[i] for i in picks[:budget]]


@pytest.mark.parametrize("budget", [1, 4, 7, 30, 60])
def test_balanced_takes_the_largest_of_each_class_in_turn(budget):
    random = np.random.default_rng(budget)
    ids = tuple(f"x{i}" for i in random.permutation(40))
    score, classes = random.integers(0, 9, 40).astype(float), random.integers(0, 4, 40)  # with ties
    picks = balanced_top(ids, score, classes, budget)
    assert list(picks.ids) == naive_turns(ids, score, classes, budget)
    assert picks.score.tolist() == [score[ids.index(id)] for id in picks.ids]
    among = np.flatnonzero(random.random(40) < 0.5)
    some = balanced_top(ids, score, classes, budget, among)
    assert list(some.ids) == naive_turns([ids[i] for i in among], score[among], classes[among], budget)


def test_balanced_refuses_nan_by_name():
    with pytest.raises(SelectionError, match="the first of sample 'b'"):
        balanced_top(("a", "b"), np.array([1.0, np.nan]), np.array([0, 1]), 1)


def test_a_score_of_0_is_drawn_last():
    for seed in range(50):
        assert stochastic_top(("a", "b", "c"), np.array([0.0, 1e-6, 1.0]), 3, seed, "power", 1.0).ids[2] == "a"


def test_power_refuses_negative_scores_by_name_and_every_lot_refuses_nan():
    with pytest.raises(SelectionError, match=r"'b' has -0\.5: use softmax or softrank"):
        stochastic_top(("a", "b"), np.array([1.0, -0.5]), 1, 0, "power", 1.0)
    assert len(stochastic_top(("a", "b"), np.array([1.0, -0.5]), 2, 0, "softmax", 1.0)) == 2
    for sampling in ("top", "power", "softmax", "softrank"):
        with pytest.raises(SelectionError, match="the first of sample 'b'"):
            stochastic_top(("a", "b"), np.array([1.0, np.nan]), 1, 0, sampling, 1.0)


@pytest.mark.parametrize("kind", ["spread", "ties", "equal", "steps", "infinite"])
@pytest.mark.parametrize("budget", [1, 40, 500, 4_999])
def test_top_of_many_is_sorting_them(kind, budget, monkeypatch):
    """With a bound read off 256 of 5,000 scores, among some of the rows."""
    monkeypatch.setitem(top.__globals__, "SAMPLED", 256)
    random = np.random.default_rng(budget)
    score = {
        "spread": random.normal(size=5_000).astype("f4"),
        "ties": random.integers(0, 5, 5_000).astype(float),
        "equal": np.zeros(5_000),
        "steps": np.sort(random.normal(size=5_000)),  # the evenly spaced ones are of all sizes
        "infinite": np.where(random.random(5_000) < 0.4, -np.inf, random.normal(size=5_000)),
    }[kind]
    ids = tuple(f"{i:04d}" for i in random.permutation(5_000))
    among = np.flatnonzero(random.random(5_000) < 0.9)
    picks = top(ids, score, budget, among)
    expected = sorted((-float(score[i]), ids[i]) for i in among)[:budget]
    assert picks.ids == tuple(id for _, id in expected)
    assert picks.score.tolist() == [-s for s, _ in expected]
    whole = top(ids, score, budget)
    assert whole.ids == tuple(id for _, id in sorted(zip(-score, ids, strict=True))[:budget])


def test_a_periodic_score_hides_its_largest_from_the_bound(monkeypatch):
    monkeypatch.setitem(top.__globals__, "SAMPLED", 100)
    score = np.where(np.arange(1_000) % 10 == 0, 1.0, 0.0)  # every tenth is large, and is all that is sampled
    picks = top(tuple(f"{i:03d}" for i in range(1_000)), score, 150)
    assert picks.score.tolist() == [1.0] * 100 + [0.0] * 50
    assert picks.ids[100:] == tuple(f"{i:03d}" for i in range(60) if i % 10)[:50]


def test_a_nan_that_cannot_be_picked_is_no_error():
    score = np.array([np.nan, 1.0, 2.0, np.nan])
    assert top(("a", "b", "c", "d"), score, 1, np.array([1, 2])).ids == ("c",)
    with pytest.raises(SelectionError, match="1 of 2 scores are NaN, the first of sample 'd'"):
        top(("a", "b", "c", "d"), score, 1, np.array([1, 3]))
