"""Runs put side by side: grouped by what was run, averaged over seeds, and paired with Random at equal seeds.

Plain arithmetic over what the store holds; what seeds show of a difference is for `verdicts`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mcdal.report.kinds import ONE_CLASS, Kind
from mcdal.report.queries import Run
from mcdal.report.words import overrides_text, strategy_name
from mcdal.statistics.paired import Interval, mean

Curve = Mapping[int, float]
"""A metric by number of labels."""


def curve(run: Run, metric: str) -> Curve:
    """The finished rounds that have the metric."""
    return {r.labeled: r.metrics[metric] for r in run.finished if metric in r.metrics}


@dataclass(frozen=True)
class Summary:
    """Several seeds at one number of labels. low, high: the extremes. interval: Student's of the mean."""

    labels: int
    mean: float
    low: float
    high: float
    seeds: int
    interval: Interval

    @property
    def band(self) -> tuple[float, float]:
        """What is drawn: the interval of the mean, or the two values that two seeds have."""
        return (self.interval.low, self.interval.high) if self.seeds > 2 else (self.low, self.high)


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only. common: what was changed by hand in all groups, which the experiment's title says."""

    runs: Sequence[Run]
    common: Mapping[str, str] = field(default_factory=dict)

    @property
    def strategy(self) -> str:
        return self.runs[0].record.strategy

    @property
    def is_random(self) -> bool:
        return self.strategy.lower() == "random"

    @cached_property
    def title(self) -> str:
        """The strategy, and what was changed by hand for it."""
        changed = overrides_text({k: v for k, v in self.runs[0].record.overrides.items() if k not in self.common})
        return strategy_name(self.strategy) + (f" ({changed})" if changed else "")

    def curves(self, metric: str = "") -> list[tuple[Run, Curve]]:
        """Of the runs that have at least one point; of the metric that their task is drawn by, unless another is named."""
        return [(run, c) for run in self.runs if (c := curve(run, metric or run.kind.headline))]

    def summaries(self, metric: str = "") -> list[Summary]:
        """Where every run that has begun has a value: means over other seeds at each point would jump for no reason."""
        return summarize([c for _, c in self.curves(metric)])


@dataclass(frozen=True)
class Experiment:
    """All groups of one recipe at one scale: what belongs into one figure."""

    recipe: str
    scale: str
    groups: Sequence[Group]

    @property
    def runs(self) -> list[Run]:
        return [run for group in self.groups for run in group.runs]

    @property
    def title(self) -> str:
        common = overrides_text(self.groups[0].common) if self.groups else ""
        return f"{self.recipe} · {self.scale}" + (f" · {common}" if common else "")

    def has(self, metric: str) -> bool:
        return any(group.curves(metric) for group in self.groups)

    @property
    def kind(self) -> Kind:
        """What labels are: the same for all its runs."""
        return self.groups[0].runs[0].kind if self.groups else ONE_CLASS

    @property
    def beside_differs(self) -> bool:
        """Whether the second metric, such as balanced accuracy, tells anything that the first does not."""
        names = self.kind.headline, self.kind.beside
        pairs = [[r.metrics.get(name) for name in names] for run in self.runs for r in run.finished]
        return any(a is not None and b is not None and abs(a - b) > 0.005 for a, b in pairs)

    @property
    def families(self) -> list[list[Group]]:
        """Groups that differ in nothing but the strategy and its own settings: what may be compared at once."""
        found: dict[str, list[Group]] = {}
        for group in self.groups:
            found.setdefault(repr(_shared_settings(group)), []).append(group)
        return list(found.values())

    def partner(self, group: Group) -> Group | None:
        """The Random group that differs in nothing but the strategy and its own settings."""
        if group.is_random:
            return None
        alike = [g for g in self.groups if g.is_random and _shared_settings(g) == _shared_settings(group)]
        return alike[0] if alike else None

    def differences(self, group: Group) -> list[tuple[Run, Run, Curve]]:
        """Run, Random's run of the same seed, and its headline minus Random's by number of labels."""
        partner = self.partner(group)
        random = {run.record.seed: (run, c) for run, c in partner.curves()} if partner else {}
        pairs: list[tuple[Run, Run, Curve]] = []
        for run, mine in group.curves():
            other, theirs = random.get(run.record.seed, (run, {}))
            if common := {n: mine[n] - theirs[n] for n in mine if n in theirs}:
                pairs.append((run, other, common))
        return pairs


def summarize(curves: Sequence[Curve]) -> list[Summary]:
    """Mean, extremes and interval at every number of labels that all curves have."""
    if not curves:
        return []
    common = sorted(set.intersection(*(set(c) for c in curves)))
    values = {n: [c[n] for c in curves] for n in common}
    return [Summary(n, float(np.mean(v)), min(v), max(v), len(v), mean(np.array(v))) for n, v in values.items()]


def experiments(runs: Iterable[Run]) -> list[Experiment]:
    """By recipe, scale and task in the order in which they were begun; Random comes last in each."""
    found: dict[tuple[str, str, str], dict[tuple[str, str], list[Run]]] = {}
    for run in runs:
        record = run.record
        groups = found.setdefault((record.recipe, record.scale, run.kind.task.name), {})
        groups.setdefault((record.strategy, repr(sorted(record.overrides.items()))), []).append(run)
    return [Experiment(recipe, scale, _ordered(groups.values())) for (recipe, scale, _), groups in found.items()]


def _ordered(groups: Iterable[list[Run]]) -> list[Group]:
    sorted_runs = [sorted(runs, key=lambda run: run.record.seed) for runs in groups]
    first, *others = (runs[0].record.overrides for runs in sorted_runs)
    common = {k: v for k, v in first.items() if others and all(other.get(k) == v for other in others)}
    made = [Group(runs, common) for runs in sorted_runs]
    return sorted(made, key=lambda group: (group.is_random, group.strategy, group.title))


def _shared_settings(group: Group) -> list[tuple[str, str]]:
    """The overrides that a Random run can have as well."""
    overrides = group.runs[0].record.overrides
    return sorted((k, str(v)) for k, v in overrides.items() if k.split(".")[0] != "strategy")
