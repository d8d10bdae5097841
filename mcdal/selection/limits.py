"""What a batch may hold at most: so many of a group, nothing that looks the same, what it may cost. Whatever the strategy."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from mcdal.errors import SelectionError
from mcdal.values import Ids, Picks, Rows


class Limit(ABC):
    """Of one batch: asked about picks in their order, told what was taken."""

    def expect(self, rows: Rows, budget: int) -> None:
        """So many of these rows are wanted. SelectionError where there is no room for them."""
        return

    def look(self, ids: Sequence[str]) -> None:
        """These will be asked about next."""
        return

    @abstractmethod
    def admits(self, id: str) -> bool:
        """Whether it may join what was taken."""

    @abstractmethod
    def take(self, id: str) -> None:
        """It is in the batch."""

    def closed(self, ids: Ids) -> Bool[np.ndarray, " n"] | None:
        """Which of these cannot join any more; None where that is only known of those that were asked about."""
        return None


class PerGroup(Limit):
    """At most `limit` of a group: frames of one sequence are worth little beside each other. group: that of each id.

    strict: where the groups have no room for a whole batch that is an error, and not a smaller batch.
    """

    def __init__(self, group: Mapping[str, str], limit: int, strict: bool = True):
        self._group, self._limit, self._strict = group, limit, strict
        self._used: Counter[str] = Counter()

    def expect(self, rows: Rows, budget: int) -> None:
        free = Counter(self._group[rows.ids[i]] for i in rows.free().tolist())
        budget = min(budget, sum(free.values()))
        possible = sum(min(max(self._limit - self._used[group], 0), count) for group, count in free.items())
        if possible < budget and self._strict:
            raise SelectionError(
                f"protocol.per_group = {self._limit}: the {len(free)} groups with unlabeled samples have room for {possible} of "
                f"the {budget} that this round asks for: raise it, lower protocol.budget, or give finer groups"
            )

    def admits(self, id: str) -> bool:
        return self._used[self._group[id]] < self._limit

    def take(self, id: str) -> None:
        self._used[self._group[id]] += 1

    def closed(self, ids: Ids) -> Bool[np.ndarray, " n"]:
        return np.fromiter((not self.admits(id) for id in ids), dtype=bool, count=len(ids))


class Within(Limit):
    """The batch costs no more than `samples` of the pool's mean cost. cost: of each id."""

    def __init__(self, cost: Mapping[str, float], samples: int):
        self._cost = cost
        self._left = samples * float(np.mean(list(cost.values())))
        self._slack = 1e-9 * self._left  # equal costs must fit whatever the last bits of their sum are

    def admits(self, id: str) -> bool:
        return self._cost[id] <= self._left + self._slack

    def take(self, id: str) -> None:
        self._left -= self._cost[id]

    def closed(self, ids: Ids) -> Bool[np.ndarray, " n"]:
        return np.fromiter((not self.admits(id) for id in ids), dtype=bool, count=len(ids))


class Unalike(Limit):
    """Nothing that looks the same as what is in the batch. vectors: of ids, of length 1; near: cosine that is too similar."""

    def __init__(self, vectors: Callable[[Sequence[str]], Float[np.ndarray, "k d"]], near: float):
        self._vectors, self._near = vectors, near
        self._known: dict[str, Float[np.ndarray, " d"]] = {}
        self._room, self._count = np.empty((0, 0)), 0  # of vectors of what was taken

    def look(self, ids: Sequence[str]) -> None:
        new = [id for id in ids if id not in self._known]
        if new:
            self._known |= zip(new, self._vectors(new), strict=True)

    def admits(self, id: str) -> bool:
        taken = self._room[: self._count]
        return not len(taken) or bool((taken @ self._known[id]).max() < self._near)

    def take(self, id: str) -> None:
        self.look([id])
        if self._count == len(self._room):  # room for as many again, so that rows are seldom copied
            more = np.repeat(self._known[id][None], max(16, self._count), axis=0)
            self._room = np.concatenate([self._room, more]) if self._count else more
        self._room[self._count] = self._known[id]
        self._count += 1


def within(
    choose: Callable[[Rows, int], Picks], rows: Rows, budget: int, limits: Sequence[Limit], as_labeled: bool
) -> Picks:
    """`budget` picks of `choose` within all limits; fewer where nothing else fits.

    choose: picks of the rows that are not labeled, most wanted first; asked again without what cannot join. as_labeled: whether
    it then sees earlier picks as labeled, as methods that cover the pool must; else as gone. For methods that rank rows one by
    one it is the ranking with the rows left out that do not fit.
    """
    for limit in limits:
        limit.expect(rows, budget)
    taken: dict[str, float] = {}
    refused: set[str] = set()
    spare = 1  # where much is refused, a few calls ask for many more instead of many calls for one
    while len(taken) < budget:
        left = _left(rows, taken, refused, limits, as_labeled)
        picks = choose(left, min((budget - len(taken)) * spare, len(left.free()))) if len(left.free()) else None
        if picks is None or not len(picks):
            break
        spare *= 2
        for limit in limits:
            limit.look(picks.ids)
        for id, score in zip(picks.ids, picks.score.tolist(), strict=True):
            if len(taken) == budget:
                break
            if all(limit.admits(id) for limit in limits):
                for limit in limits:
                    limit.take(id)
                taken[id] = score
            else:
                refused.add(id)
    return Picks(tuple(taken), np.array(list(taken.values()), dtype=np.float64))


def _left(
    rows: Rows, taken: Collection[str], refused: Collection[str], limits: Sequence[Limit], as_labeled: bool
) -> Rows:
    """What may still be picked, and what is labeled or counts as it."""
    picked = np.fromiter((id in taken for id in rows.ids), dtype=bool, count=len(rows.ids))
    out = np.fromiter((id in refused for id in rows.ids), dtype=bool, count=len(rows.ids))
    for limit in limits:
        if (mask := limit.closed(rows.ids)) is not None:
            out |= mask
    kept = np.where(picked, as_labeled, rows.labeled | ~out)
    if kept.all() and not taken:  # whole arrays are not copied for nothing
        return rows
    return replace(rows, labeled=rows.labeled | picked).take(np.flatnonzero(kept))
