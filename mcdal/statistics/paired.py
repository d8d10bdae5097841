"""Differences that are paired by seed: their interval, tests of many at once, and how many seeds would show one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

LEVEL = 0.95
"""Of intervals; tests are at one minus it."""
POWER = 0.8
"""Chance to show a difference that is there, by which seeds are counted."""
MOST_SEEDS = 1_000
"""More than that nobody plays."""


@dataclass(frozen=True)
class Interval:
    """A value and the interval that covers the true one in LEVEL of all repetitions; not a number where nothing is known."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def mean(values: Float[np.ndarray, " seeds"]) -> Interval:
    """Student's t interval of the mean. Of one seed it has no ends."""
    value = float(np.mean(values))
    if len(values) < 2:
        return Interval(value, math.nan, math.nan)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    return Interval(value, value - half, value + half)


def deviation(values: Float[np.ndarray, " seeds"]) -> float:
    """Standard deviation over seeds (n - 1). Not a number of one seed."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


@dataclass(frozen=True)
class Steadiness:
    """ratio: of one's standard deviation over the other's. p: that both are alike."""

    ratio: float
    p: float


def steadiness(mine: Float[np.ndarray, " seeds"], theirs: Float[np.ndarray, " seeds"]) -> Steadiness:
    """Whether one is steadier over the same seeds: the test of Pitman (1939) and Morgan (1939) for variances of pairs.

    Sums and differences of pairs are uncorrelated where both variances are equal; p is that of their correlation, for values
    that are normally distributed. Not a number below three seeds, or where neither differs between seeds.
    """
    spread = deviation(mine), deviation(theirs)
    ratio = spread[0] / spread[1] if spread[1] else math.nan if not spread[0] else math.inf
    total, difference = mine + theirs, mine - theirs
    if len(mine) < 3 or not (np.ptp(total) and np.ptp(difference)):
        return Steadiness(ratio, math.nan)
    return Steadiness(ratio, float(stats.pearsonr(total, difference).pvalue))


def t_test(difference: Float[np.ndarray, " seeds"]) -> float:
    """Two-sided p of the paired t test. 1 where there are fewer than two seeds, or all differences are 0.

    Where all differences are alike, as a metric in few steps may have it, that of the sign test: t would be sure of two seeds.
    """
    if len(difference) < 2 or not np.any(difference):
        return 1.0
    if np.ptp(difference) <= 1e-9 * np.abs(difference).max():  # the same in every seed, but for the last bits
        return float(2.0 * 0.5 ** len(difference))
    return float(stats.ttest_1samp(difference, 0.0).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p values of tests that are made together, so that one in twenty times any of them errs (Holm 1979).

    The k-th smallest of m is multiplied by m - k (from k = 0), and is no smaller than those before it.
    """
    adjusted, largest = [0.0] * len(p), 0.0
    for k, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - k) * p[i]))
        adjusted[i] = largest
    return adjusted


def seeds_needed(difference: Float[np.ndarray, " seeds"], tests: int = 1) -> int | None:
    """How many seeds a paired t test needs to show a difference as large and as unsteady as this one, with POWER.

    tests: made together, each at that part of the level: what Holm's correction asks of the first of them. None where it cannot
    be said (fewer than two seeds, no difference at all) or where MOST_SEEDS are too few. The power is that of the noncentral t
    distribution with effect mean / standard deviation.
    """
    if len(difference) < 2 or not np.any(difference):
        return None
    size, deviation = abs(float(np.mean(difference))), float(np.std(difference, ddof=1))
    alpha = (1 - LEVEL) / tests
    if deviation <= 1e-9 * size:  # the same in every seed, but for the last bits: as many as the sign test needs
        return 1 + math.ceil(math.log2(1 / alpha))
    effect = size / deviation
    for n in range(2, MOST_SEEDS + 1):
        critical = stats.t.ppf(1 - alpha / 2, n - 1)
        shown = stats.nct.sf(critical, n - 1, effect * math.sqrt(n)) + stats.nct.cdf(
            -critical, n - 1, effect * math.sqrt(n)
        )
        if shown >= POWER:
            return n
    return None
