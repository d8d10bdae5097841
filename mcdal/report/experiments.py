"""Runs put side by side: grouped by what was run, averaged over seeds, and paired with Random at equal seeds.

Plain arithmetic over what the store holds; what seeds show of a difference is for `verdicts`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mcdal.plan import deciding
from mcdal.report.kinds import ONE_CLASS, Kind
from mcdal.report.queries import Run
from mcdal.report.words import overrides_text, strategy_name
from mcdal.statistics.paired import Interval, deviation, mean

Curve = Mapping[int, float]
"""A metric by number of labels."""


def curve(run: Run, metric: str) -> Curve:
    """The finished rounds that have the metric."""
    return {r.labeled: r.metrics[metric] for r in run.finished if metric in r.metrics}


@dataclass(frozen=True)
class Summary:
    """Several seeds at one number of labels. low, high: the extremes. interval: Student's of the mean.

    deviation: standard deviation over the seeds (n - 1); not a number of one.
    """

    labels: int
    mean: float
    deviation: float
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
    def overrides(self) -> Mapping[str, str]:
        """What was changed by hand and can change a result."""
        return deciding(self.runs[0].record.overrides)

    @property
    def shared(self) -> Mapping[str, str]:
        """The overrides that a run of another strategy can have as well."""
        return {k: v for k, v in self.overrides.items() if k.split(".")[0] != "strategy"}

    @cached_property
    def title(self) -> str:
        """The strategy, and what was changed by hand for it."""
        return self.named(self.common)

    def named(self, known: Collection[str]) -> str:
        """Its title where these settings are told beside it."""
        changed = overrides_text({k: v for k, v in self.overrides.items() if k not in known})
        return strategy_name(self.strategy) + (f" ({changed})" if changed else "")

    def curves(self, metric: str = "") -> list[tuple[Run, Curve]]:
        """Of the runs that have at least one point; of the metric that their task is drawn by, unless another is named."""
        return [(run, c) for run in self.runs if (c := curve(run, metric or run.kind.headline))]

    def summaries(self, metric: str = "") -> list[Summary]:
        """Where every run that has begun has a value: means over other seeds at each point would jump for no reason."""
        return summarize([c for _, c in self.curves(metric)])


@dataclass(frozen=True)
class Family:
    """Groups that differ in nothing but the strategy and its own settings: what may be compared at once.

    settings: what tells it from the experiment's other families.
    """

    groups: Sequence[Group]
    settings: Mapping[str, str]

    @property
    def title(self) -> str:
        """Empty where it is the only one, or has nothing set."""
        return overrides_text(self.settings)

    @property
    def random(self) -> Group | None:
        return next((group for group in self.groups if group.is_random), None)

    def name(self, group: Group) -> str:
        """Of one of its groups, without what the family's title says."""
        return group.named({*group.common, *self.settings})


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

    @cached_property
    def families(self) -> list[Family]:
        """In the order of their first groups."""
        found: list[tuple[Mapping[str, str], list[Group]]] = []
        for group in self.groups:
            there = next((groups for shared, groups in found if shared == group.shared), None)
            if there is None:
                found.append((group.shared, [group]))
            else:
                there.append(group)
        everywhere = set.intersection(*(set(shared.items()) for shared, _ in found)) if found else set()
        return [Family(of, {k: v for k, v in shared.items() if (k, v) not in everywhere}) for shared, of in found]

    def partner(self, group: Group) -> Group | None:
        """The Random group that differs in nothing but the strategy and its own settings."""
        if group.is_random:
            return None
        return next(family.random for family in self.families if family.groups[0].shared == group.shared)

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
    return [
        Summary(n, float(np.mean(v)), deviation(np.array(v)), min(v), max(v), len(v), mean(np.array(v)))
        for n, v in values.items()
    ]


def experiments(runs: Iterable[Run]) -> list[Experiment]:
    """By recipe, scale and task in the order in which they were begun; Random comes last in each."""
    found: dict[tuple[str, str, str], dict[tuple[str, str], list[Run]]] = {}
    for run in runs:
        record = run.record
        groups = found.setdefault((record.recipe, record.scale, run.kind.task.name), {})
        groups.setdefault((record.strategy, repr(sorted(deciding(record.overrides).items()))), []).append(run)
    return [Experiment(recipe, scale, _ordered(groups.values())) for (recipe, scale, _), groups in found.items()]


def _ordered(groups: Iterable[list[Run]]) -> list[Group]:
    sorted_runs = [sorted(runs, key=lambda run: run.record.seed) for runs in groups]
    first, *others = (deciding(runs[0].record.overrides) for runs in sorted_runs)
    common = {k: v for k, v in first.items() if others and all(other.get(k) == v for other in others)}
    made = [Group(runs, common) for runs in sorted_runs]
    return sorted(made, key=lambda group: (group.is_random, group.strategy, group.title))
