"""What a round asks for: what the strategy picks, what is mixed in beside it, within what a batch may hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mcdal.errors import ConfigError
from mcdal.events import Listener, nobody
from mcdal.groups import read_costs, read_groups
from mcdal.likeness import Likeness
from mcdal.measuring import select
from mcdal.plan import Plan
from mcdal.pool.base import Pool
from mcdal.selection import at_random, mask
from mcdal.selection.control import joined, without
from mcdal.selection.limits import Limit, PerGroup, Unalike, Within, within
from mcdal.strategies.base import Beside, Strategy
from mcdal.values import Ids, Picks, Rows

Measure = Callable[[Strategy], Rows]


@dataclass(frozen=True)
class Batch:
    """arms: what was not picked by the strategy, and by what: control (drawn at random), easy, or rare."""

    picks: Picks
    arms: Mapping[str, str]


class Batches:
    """Of one run. What files say of its samples is read when it begins."""

    def __init__(self, plan: Plan, pool: Pool, listen: Listener = nobody):
        self._plan, self._pool, self._config, self._listen = plan, pool, plan.config, listen
        self.groups = self._groups()
        self.costs = self._costs()

    def choose(self, strategy: Strategy, rows: Rows, size: int, round: int, measure: Measure) -> Batch:
        """`size` of these rows, or fewer where nothing else fits. measure: with another strategy, which is mixed in.

        What is drawn at random is drawn first, and whatever else: it must stay a random sample.
        """
        control = int(self._config.protocol.control * size) if round else 0
        drawn = Picks((), np.zeros(0))
        if control:  # a number for each id of the pool is drawn, which takes its time
            drawn = at_random(rows.ids, control, self._plan.seed_of("control", round), rows.free())
        limits = self._limits(size)
        for id in drawn.ids:
            for limit in limits:
                limit.take(id)
        arms = dict.fromkeys(drawn.ids, "control")
        beside = [drawn]
        for name, most, other in self._mixed_in(size) if round else ():
            seen = measure(other)
            free = replace(seen, labeled=seen.labeled | mask(Picks(tuple(arms), np.zeros(len(arms))), seen))
            picks = self._few(other, _among(free, rows.ids), most, round, limits)
            arms |= dict.fromkeys(picks.ids, name)
            beside.append(picks)
        # What is drawn has no label yet, so a strategy that learns from labels must not take it for a labeled one.
        left = without(rows, tuple(arms), as_labeled="labels" not in strategy.needs)
        seed = self._plan.seed_of("select", round)
        search = self._config.search
        picks = select(strategy, left, size - len(arms), seed, limits=limits, search=search, listen=self._listen)
        for other_picks in beside:
            picks = joined(picks, other_picks, rows)
        return Batch(picks, arms)

    def _few(self, strategy: Strategy, rows: Rows, most: int, round: int, limits: Sequence[Limit]) -> Picks:
        """As many as the strategy has and limits admit, `most` at most."""
        seed = self._plan.seed_of("beside", round)
        return within(lambda left, count: strategy.select(left, count, seed), rows, most, limits, as_labeled=False)

    def _mixed_in(self, size: int) -> list[tuple[str, int, Beside]]:
        """Which arm, how many at most, and what picks them; without those that would look at the pool for nothing."""
        config, protocol, classes = self._config, self._config.protocol, len(self._pool.classes)
        there = (("rare", protocol.rare, config.rare), ("easy", protocol.easy, config.easy))
        return [
            (name, int(share * size), strategy)
            for name, share, strategy in there
            if strategy is not None and int(share * size) and strategy.wanted(classes)
        ]

    def _limits(self, size: int) -> list[Limit]:
        protocol = self._config.protocol
        limits: list[Limit] = []
        if self.groups is not None and protocol.per_group is not None:
            limits.append(PerGroup(self.groups, protocol.per_group, strict=not self._config.source.grows))
        if self.costs is not None:
            limits.append(Within(self.costs, size))
        if protocol.near is not None:
            limits.append(Unalike(Likeness(self._pool.images).of, protocol.near))
        return limits

    def _groups(self) -> Mapping[str, str] | None:
        """The group of each sample, where a batch is limited by it."""
        if self._config.protocol.per_group is None:
            return None
        ids, given = self._pool.images.ids, self._pool.groups
        if self._config.groups is not None:
            given = read_groups(self._config.groups, self._pool.images.originals, self._config.source.grows)
        if given is None:
            raise ConfigError(
                f"protocol.per_group = {self._config.protocol.per_group}: {self._pool.name} knows no groups; give them in a file "
                "(--set groups=groups.csv with the columns sample_id and group)"
            )
        return dict(zip(ids, given, strict=True))

    def _costs(self) -> Mapping[str, float] | None:
        if self._config.costs is None:
            return None
        ids = self._pool.images.ids
        costs = read_costs(self._config.costs, self._pool.images.originals, self._config.source.grows)
        return dict(zip(ids, costs, strict=True))


def _among(rows: Rows, ids: Ids) -> Rows:
    """Those of these ids alone."""
    kept = frozenset(ids)
    return rows.take(np.flatnonzero(np.fromiter((id in kept for id in rows.ids), dtype=bool, count=len(rows.ids))))
