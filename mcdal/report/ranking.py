"""Many strategies as one table, the best first: difference to Random, what it is worth, and what it costs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcdal.report.curves import Look, Looks
from mcdal.report.experiments import Experiment, Family, Group
from mcdal.report.timing import cost_of
from mcdal.report.verdicts import Verdict, sentences
from mcdal.report.words import NARROW, count, duration, percent, points
from mcdal.statistics.paired import Interval

FEW = 4
"""So many strategies have a paragraph each; more are a table."""
EDGE = 4.0
"""Of a whisker's box, on both sides, in its units of 100."""


@dataclass(frozen=True)
class Whisker:
    """An interval as it is drawn, in per cent of the width of its cell; zero: where no difference lies."""

    low: float
    value: float
    high: float
    zero: float


@dataclass(frozen=True)
class Row:
    """One strategy; an empty text where there is nothing to say. number: its place in the experiment.

    shown: whether a difference to Random is shown. last: the headline with the most labels; spread: its standard deviation over
    seeds, in percentage points. time: of a round, and by how much more than Random's. words: what its seeds show, in sentences.
    """

    number: int
    title: str
    look: Look
    difference: str
    interval: str
    whisker: Whisker | None
    p: str
    shown: bool
    saved: str
    last: str
    spread: str
    time: str
    factor: str
    seeds: str
    words: str


@dataclass(frozen=True)
class Ranking:
    """Of one family. labels: over which numbers of labels the differences are. adjusted: for how many strategies p is."""

    title: str
    rows: Sequence[Row]
    labels: str
    last: str
    metric: str
    adjusted: str


def rankings(experiment: Experiment, looks: Looks, verdicts: Sequence[Verdict]) -> list[Ranking]:
    """One of each family; none where each strategy can have a paragraph of its own, or where no round is finished."""
    if len(experiment.groups) <= FEW:
        return []
    found = {id(v.group): v for v in verdicts}
    reach = _reach([v.area for v in found.values()])
    return [
        _of_family(experiment, family, looks, found, reach)
        for family in experiment.families
        if any(g.curves() for g in family.groups)
    ]


def _of_family(
    experiment: Experiment,
    family: Family,
    looks: Looks,
    verdicts: Mapping[int, Verdict],
    reach: tuple[float, float],
) -> Ranking:
    """reach: the ends of the scale that all families share."""
    groups = [g for g in family.groups if g.curves()]
    costs = {id(g): sum(cost_of(g).values()) for g in groups}
    ordered = sorted(groups, key=lambda g: _order(g, verdicts.get(id(g))))
    rows = [_row(experiment, family, group, looks, verdicts.get(id(group)), reach, costs) for group in ordered]
    found = [verdicts[id(g)] for g in groups if id(g) in verdicts]
    ends = {(int(v.labels[0]), int(v.labels[-1])) for v in found}
    last = {g.summaries()[-1].labels for g in groups if g.summaries()}
    together = {v.together for v in found if v.seeds > 1}
    return Ranking(
        family.title,
        rows,
        " or ".join(f"{count(first)} to {count(end)}" for first, end in sorted(ends)) if len(ends) <= 2 else "",
        count(last.pop()) if len(last) == 1 else "",
        experiment.kind.headline_name,
        " or ".join(map(str, sorted(together))),
    )


def _order(group: Group, verdict: Verdict | None) -> tuple[bool, float]:
    """By the difference, Random among the others; then what cannot be paired, by what it reached."""
    if verdict is not None or group.is_random:
        return False, -(verdict.area.value if verdict else 0.0)
    summaries = group.summaries()
    return True, -(summaries[-1].mean if summaries else 0.0)


def _reach(intervals: Sequence[Interval]) -> tuple[float, float]:
    """The ends of the common scale of all whiskers, zero among them."""
    ends = [v for i in intervals for v in (i.low, i.value, i.high) if math.isfinite(v)]
    return min([0.0, *ends]), max([0.0, *ends])


def _row(
    experiment: Experiment,
    family: Family,
    group: Group,
    looks: Looks,
    verdict: Verdict | None,
    reach: tuple[float, float],
    costs: Mapping[int, float],
) -> Row:
    summaries, cost = group.summaries(), costs[id(group)]
    random = costs.get(id(family.random), 0.0)
    begun = len(group.curves())
    missing = len(group.runs) - begun
    return Row(
        number=experiment.groups.index(group),
        title=family.name(group),
        look=looks[group.strategy, group.title],
        difference=points(verdict.area.value) if verdict else "",
        interval=f"{points(verdict.area.low)} to {points(verdict.area.high)}" if verdict and verdict.seeds > 1 else "",
        whisker=_whisker(verdict.area, reach) if verdict else None,
        p=_p(verdict.p) if verdict and verdict.seeds > 1 else "",
        shown=verdict is not None and verdict.shown,
        saved=_saved(verdict) if verdict else "",
        last=percent(summaries[-1].mean) if summaries else "",
        spread=f"±{NARROW}{100 * summaries[-1].deviation:.1f}" if summaries and summaries[-1].seeds > 1 else "",
        time=duration(cost) if cost else "",
        factor=f"×{NARROW}{cost / random:.1f}" if cost and random and not group.is_random else "",
        seeds=str(begun) + (f" of {begun + missing}" if missing else ""),
        words=" ".join(sentences(verdict, experiment.kind.headline_name)) if verdict else "",
    )


def _whisker(interval: Interval, reach: tuple[float, float]) -> Whisker:
    low, high = reach
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return round(EDGE + (100 - 2 * EDGE) * (value - low) / span, 2)

    first, last = (v if math.isfinite(v) else interval.value for v in (interval.low, interval.high))
    return Whisker(place(first), place(interval.value), place(last), place(0.0))


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def _saved(verdict: Verdict) -> str:
    """`31 % (24 to 37)`, below zero where more labels are needed; only where a difference is shown."""
    saving = verdict.saving
    if not verdict.shown or saving is None or not math.isfinite(saving.share.value):
        return ""
    value, low, high = (
        f"{100 * v:.0f}".replace("-", "\N{MINUS SIGN}")
        for v in (saving.share.value, saving.share.low, saving.share.high)
    )
    return f"{value}{NARROW}% ({low} to {high})"
