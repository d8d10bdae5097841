"""What the seeds show of each strategy against Random, in words, and what they do not show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mcdal.report.experiments import Experiment, Family, Group
from mcdal.report.ink import Cell, Table
from mcdal.report.words import MINUS, NARROW, count, percent, plural, points
from mcdal.statistics.curves import Saving, area, labels_saved
from mcdal.statistics.paired import LEVEL, MOST_SEEDS, Interval, holm, mean, seeds_needed, t_test


@dataclass(frozen=True)
class Verdict:
    """A strategy against Random over the seeds and numbers of labels that both have.

    area: of the differences of areas under the curves, which are mean heights: mine - theirs. p: adjusted (Holm) for the
    strategies that are tested together, those with the same settings of everything else. needed: seeds that would show such a
    difference so.
    """

    group: Group
    labels: Int[np.ndarray, " budgets"]
    seeds: int
    mine: float
    theirs: float
    area: Interval
    p: float
    together: int
    saving: Saving | None
    needed: int | None

    @property
    def shown(self) -> bool:
        """Whether there is a difference, at the 5 % level over all strategies together."""
        return self.p < 1 - LEVEL


def verdicts(experiment: Experiment) -> list[Verdict]:
    """Of every strategy that has runs with Random's seeds, in the order of the figure."""
    return [verdict for family in experiment.families for verdict in _of_family(experiment, family)]


def verdict_table(verdicts: Sequence[Verdict]) -> Table | None:
    """All that is told of each strategy against Random, as numbers; None where there is nothing."""
    columns = (
        "group", "seeds", "first_labels", "last_labels", "area", "random_area", "difference", "low", "high", "p_adjusted",
        "tested_together", "target", "labels", "random_labels", "labels_saved", "saved_low", "saved_high", "seeds_needed",
    )  # fmt: skip
    rows: list[Sequence[Cell]] = []
    for v in verdicts:
        save = v.saving
        saved = (save.target, save.mine, save.theirs, *_ends(save.share)) if save is not None else (None,) * 6
        at = int(v.labels[0]), int(v.labels[-1])
        p = v.p if v.seeds > 1 else None
        rows.append((v.group.title, v.seeds, *at, v.mine, v.theirs, *_ends(v.area), p, v.together, *saved, v.needed))
    return Table(columns, rows) if rows else None


def _ends(interval: Interval) -> tuple[Cell, Cell, Cell]:
    value, low, high = (v if math.isfinite(v) else None for v in (interval.value, interval.low, interval.high))
    return value, low, high


def _of_family(experiment: Experiment, family: Family) -> list[Verdict]:
    compared = [(group, *pair) for group in family.groups if (pair := _paired(experiment, group)) is not None]
    areas = [(area(labels, mine), area(labels, theirs)) for _, labels, mine, theirs in compared]
    differences = [mine - theirs for mine, theirs in areas]
    tested = [i for i, difference in enumerate(differences) if len(difference) > 1]
    adjusted = dict(zip(tested, holm([t_test(differences[i]) for i in tested]), strict=True))
    return [
        Verdict(
            group,
            labels,
            len(mine),
            float(np.mean(areas[i][0])),
            float(np.mean(areas[i][1])),
            mean(differences[i]),
            adjusted.get(i, 1.0),
            len(tested),
            labels_saved(labels, mine, theirs),
            seeds_needed(differences[i], max(1, len(tested))),
        )
        for i, (group, labels, mine, theirs) in enumerate(compared)
    ]


def _paired(
    experiment: Experiment, group: Group
) -> tuple[Int[np.ndarray, " k"], Float[np.ndarray, "s k"], Float[np.ndarray, "s k"]] | None:
    """Numbers of labels, and the headline of the group and of Random there, a row a seed; None without a common one."""
    partner = experiment.partner(group)
    theirs = {run.record.seed: curve for run, curve in partner.curves()} if partner else {}
    pairs = [(curve, theirs[run.record.seed]) for run, curve in group.curves() if run.record.seed in theirs]
    common = sorted(set.intersection(*(set(a) & set(b) for a, b in pairs))) if pairs else []
    if not common:
        return None
    mine, random = ([[curve[n] for n in common] for curve in side] for side in zip(*pairs, strict=True))
    return np.array(common), np.array(mine), np.array(random)


def sentences(verdict: Verdict, metric: str) -> list[str]:
    """One on the difference, and one on the labels that it saves or costs."""
    found = [_difference(verdict, metric)]
    if verdict.shown and verdict.saving is not None and math.isfinite(verdict.saving.share.value):
        found.append(_saving(verdict.saving, metric, int(verdict.labels[0])))
    return found


def _difference(verdict: Verdict, metric: str) -> str:
    over = f"over {_range(verdict.labels)}"
    if verdict.seeds < 2:
        return (
            f"{points(verdict.area.value)} points of mean {metric} to Random {over}, with one seed: it may be chance."
        )
    if verdict.area.value == verdict.area.low == verdict.area.high == 0:
        return f"No difference to Random {over} with {plural(verdict.seeds, 'seed')}."
    interval = f"{points(verdict.area.low)} to {points(verdict.area.high)}"
    size = f"{points(verdict.area.value)} points of mean {metric} {over} (95{NARROW}%: {interval})"
    many = f", adjusted for {verdict.together} strategies" if verdict.together > 1 else ""
    tested = f"{size}; p {_p(verdict.p)}{many}."
    if verdict.shown:
        return f"{'Better' if verdict.area.value > 0 else 'Worse'} than Random: {tested}"
    more = f"more than {count(MOST_SEEDS)}" if verdict.needed is None else f"about {count(verdict.needed)}"
    enough = verdict.needed is not None and verdict.needed <= verdict.seeds
    would = "" if enough else f" If it is as large as it looks, {more} seeds would show it."
    return f"No difference to Random shown with {plural(verdict.seeds, 'seed')}: {tested}{would}"


def _saving(saving: Saving, metric: str, first: int) -> str:
    """first: the fewest labels that there were. What is reached with these may have been reached with fewer still."""
    share, more = saving.share, saving.share.value < 0
    low, high = (-share.high, -share.low) if more else (share.low, share.high)
    least = "at least " if first in (round(saving.mine), round(saving.theirs)) else ""
    ends = f" (95{NARROW}%: {_whole(low)} to {_whole(high)})" if math.isfinite(low) and math.isfinite(high) else ""
    how = f"{least}{_whole(abs(share.value))}{NARROW}%{ends} {'more' if more else 'fewer'} labels than Random"
    return f"It reaches {percent(saving.target)} {metric} with {how}: {_labels(saving.mine)} instead of {_labels(saving.theirs)}."


def _whole(share: float) -> str:
    return f"{100 * share:.0f}".replace("-", MINUS)


def _labels(number: float) -> str:
    return count(round(number))


def _range(labels: Sequence[int] | Int[np.ndarray, " k"]) -> str:
    first, last = int(labels[0]), int(labels[-1])
    return plural(first, "label") if first == last else f"{count(first)} to {count(last)} labels"


def _p(p: float) -> str:
    return f"< {0.001:g}" if p < 0.001 else f"= {p:.2g}"
