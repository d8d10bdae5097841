"""Learning curves against each other: area, labels saved, who beats whom how often, and ranks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from mcdal.statistics.paired import LEVEL, Interval, t_test

RESAMPLES = 9_999
LEAST_SEEDS = 4
"""So few make no interval of labels that are saved: what three seeds could have given is not seen from three."""

Values = Float[np.ndarray, "seeds budgets"]
Labels = Int[np.ndarray, " budgets"]


def area(labels: Labels, values: Values) -> Float[np.ndarray, " seeds"]:
    """Under each curve by trapezoids, over the range of labels: the mean of the metric over a campaign."""
    if len(labels) == 1:
        return values[:, 0]
    found: Float[np.ndarray, " seeds"] = np.trapezoid(values, labels, axis=1) / (labels[-1] - labels[0])
    return found


def labels_for(
    labels: Labels, curves: Float[np.ndarray, "r budgets"], target: Float[np.ndarray, " r"]
) -> Float[np.ndarray, " r"]:
    """How many labels each curve, drawn with straight lines, first reaches its target with; infinity where it never does."""
    reached = curves >= target[:, None]
    k = reached.argmax(1)  # the first one
    before = np.maximum(k - 1, 0)
    rows = np.arange(len(curves))
    rise = curves[rows, k] - curves[rows, before]
    share = np.divide(target - curves[rows, before], rise, out=np.ones(len(curves)), where=k > 0)
    found: Float[np.ndarray, " r"] = labels[before] + share * (labels[k] - labels[before])
    return np.where(reached.any(1), found, np.inf)


@dataclass(frozen=True)
class Saving:
    """target: of the metric. mine, theirs: labels that this strategy and the other need for it. share: 1 - mine / theirs."""

    target: float
    mine: float
    theirs: float
    share: Interval


def labels_saved(labels: Labels, mine: Values, theirs: Values, seed: int = 0) -> Saving | None:
    """How many labels less than the other this strategy needs for what both reach; rows are the same seeds in the same order.

    The target is the smaller of the two mean curves' last values, and its labels are read off the mean curves. The interval is
    the bootstrap's over seeds, each time with the target of the curves that were drawn; none below LEAST_SEEDS. Its percentiles
    are expanded for few seeds (Hesterberg 2015): plain ones are too narrow, by sqrt((n - 1) / n) and the quantile of the normal
    in place of Student's. None where both reach the target with the first budget.
    """
    target, needed = _needed(labels, mine.mean(0)[None], theirs.mean(0)[None])
    my_labels, their_labels = (float(n[0]) for n in needed)
    if my_labels == their_labels == labels[0]:
        return None
    share, n = 1 - my_labels / their_labels, len(mine)
    if n < LEAST_SEEDS:
        return Saving(float(target[0]), my_labels, their_labels, Interval(share, math.nan, math.nan))
    weights = np.random.default_rng(seed).multinomial(n, [1 / n] * n, RESAMPLES) / n
    _, (my_draws, their_draws) = _needed(labels, weights @ mine, weights @ theirs)
    tail = float(stats.norm.sf(math.sqrt(n / (n - 1)) * stats.t.ppf((1 + LEVEL) / 2, n - 1)))
    low, high = np.quantile(1 - my_draws / their_draws, [tail, 1 - tail])
    return Saving(float(target[0]), my_labels, their_labels, Interval(share, float(low), float(high)))


def _needed(
    labels: Labels, mine: Float[np.ndarray, "r budgets"], theirs: Float[np.ndarray, "r budgets"]
) -> tuple[Float[np.ndarray, " r"], list[Float[np.ndarray, " r"]]]:
    """What both curves of a row reach, and the labels that each needs for it."""
    target = np.minimum(mine[:, -1], theirs[:, -1])
    return target, [labels_for(labels, curves, target) for curves in (mine, theirs)]


def penalties(curves: Sequence[Values]) -> Float[np.ndarray, "m m"]:
    """At what share of the budgets strategy i beats strategy j (row i, column j), by a paired t test at each (Ash et al. 2020).

    curves: of each strategy, over the same seeds and budgets. A column's mean is how often a strategy is beaten.
    """
    m = len(curves)
    found = np.zeros((m, m))
    for i in range(m):
        for j in range(i):
            difference = curves[i] - curves[j]
            for column in difference.T:
                if t_test(column) < 1 - LEVEL:
                    winner, loser = (i, j) if column.mean() > 0 else (j, i)
                    found[winner, loser] += 1 / difference.shape[1]
    return found


@dataclass(frozen=True)
class Ranks:
    """mean: of each strategy, 1 the best. p: that all are alike (Friedman). critical: ranks further apart than this differ."""

    mean: Float[np.ndarray, " m"]
    p: float
    critical: float


def ranks(areas: Float[np.ndarray, "m seeds"]) -> Ranks | None:
    """Of strategies by their areas within each seed, with Nemenyi's critical difference (Demsar 2006). None below 3 x 2."""
    m, n = areas.shape
    if m < 3 or n < 2:
        return None
    within = stats.rankdata(-areas, axis=0)
    alike = bool((within == within[:1]).all())
    p = 1.0 if alike else float(stats.friedmanchisquare(*areas).pvalue)
    quantile = float(stats.studentized_range.ppf(LEVEL, m, np.inf)) / math.sqrt(2)
    return Ranks(within.mean(1), p, quantile * math.sqrt(m * (m + 1) / (6 * n)))
