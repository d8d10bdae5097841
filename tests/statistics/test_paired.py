"""Intervals, tests and seed counts against published numbers and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from mcdal.statistics.paired import deviation, holm, mean, seeds_needed, steadiness, t_test


def test_the_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(2_000):
        interval = mean(random.normal(3.0, 2.0, 4))
        covered += interval.low <= 3.0 <= interval.high
    assert covered / 2_000 == pytest.approx(0.95, abs=0.02)


def test_one_seed_has_a_value_and_no_interval():
    interval = mean(np.array([0.5]))
    assert interval.value == 0.5
    assert math.isnan(interval.low) and math.isnan(interval.high)
    assert not interval.excludes_zero


def test_which_of_two_is_steadier_over_the_same_seeds():
    random = np.random.default_rng(0)

    def called(factor, seeds=12):
        found = 0
        for _ in range(400):
            common = random.normal(0, 1, seeds)
            mine, theirs = common + random.normal(0, 1, seeds), factor * (common + random.normal(0, 1, seeds))
            found += steadiness(mine, theirs).p < 0.05
        return found / 400

    assert called(1.0) == pytest.approx(0.05, abs=0.03), "no more often than it may err"
    assert called(3.0) > 0.8
    told = steadiness(np.array([1.0, 2.0, 4.0, 3.0]), np.array([2.0, 4.0, 8.0, 6.0]))
    assert told.ratio == pytest.approx(0.5)
    assert math.isnan(steadiness(np.array([1.0, 2.0]), np.array([1.0, 3.0])).p)
    assert math.isnan(steadiness(np.ones(4), np.ones(4)).p) and math.isnan(steadiness(np.ones(4), np.ones(4)).ratio)
    assert steadiness(np.arange(4.0), np.ones(4)).ratio == math.inf
    assert deviation(np.array([1.0, 2.0, 3.0])) == 1.0 and math.isnan(deviation(np.ones(1)))


def test_the_test_is_scipys_and_has_an_answer_for_every_input():
    x, y = np.random.default_rng(1).normal(size=(2, 6))
    assert t_test(x - y) == pytest.approx(stats.ttest_rel(x, y).pvalue)
    assert t_test(np.zeros(5)) == 1.0
    assert t_test(np.array([0.3])) == 1.0
    assert t_test(np.full(4, 0.25)) == stats.binomtest(4, 4).pvalue


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(("effect", "seeds"), [(0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_as_gpower_counts_them(effect, seeds):
    """G*Power 3.1, paired t test, two-sided, alpha .05, power .8."""
    spread = np.array([-1.0, 1.0, -1.0, 1.0])
    assert seeds_needed(effect + spread / spread.std(ddof=1)) == seeds


def test_seeds_that_cannot_be_counted():
    assert seeds_needed(np.array([0.1])) is None
    assert seeds_needed(np.zeros(5)) is None
    assert seeds_needed(np.array([1.0, -1.0, 1e-4])) is None, "more than anybody plays"
    assert seeds_needed(np.full(3, 0.1)) == 6, "the sign test's: 2 / 2^6 < .05"


def test_tests_that_are_made_together_need_more_seeds():
    spread = np.array([-1.0, 1.0, -1.0, 1.0])
    difference = 1.0 + spread / spread.std(ddof=1)
    assert (seeds_needed(difference), seeds_needed(difference, tests=10)) == (10, 18)
