"""How a batch is searched for in a large pool: exactly where that fits, else by an approximation that says what it did."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from mcdal.checked import above_zero, at_least
from mcdal.errors import ConfigError, SelectionError
from mcdal.selection.candidates import of_candidates
from mcdal.selection.demand import Demand, Size
from mcdal.selection.parts import Choose, Parts, in_parts
from mcdal.values import Picks, Rows

How: TypeAlias = Literal["auto", "exact", "candidates", "partition"]
Needs: TypeAlias = Callable[[Size], Demand]


@dataclass(frozen=True)
class Search:
    """What a choice may need, and what is done where the exact one needs more."""

    how: How = "auto"
    """exact: the method on all rows. partition: on each of some random parts, then on what they picked. candidates: on the rows
    with the largest scores. auto: exact where that keeps to `memory_gib` and `minutes`, else partition."""
    memory_gib: float = 4.0
    """Memory that a choice may take beyond the measured rows. The same on every machine, so that the same data are chosen from
    in the same way."""
    minutes: float = 60.0
    """Time that it may take on one core of 50 GFLOP/s."""
    parts: int | None = None
    """Of a partition; null: as few as keep to `memory_gib` and `minutes`."""
    candidates: int = 10
    """Candidates for each pick."""

    def __post_init__(self) -> None:
        above_zero(self, "search", "memory_gib", "minutes")
        at_least(self, "search", 1, "candidates")
        if self.parts is not None and self.parts < 2:
            raise ConfigError(f"search.parts = {self.parts}: give at least 2, or null")

    def choose(self, once: Choose, rows: Rows, budget: int, needs: Needs, seed: int) -> Picks:
        """What `once` picks of all rows, or of some as the setting says; `Picks.searched` says how. needs: of `once`, by size."""
        size = Size.of(rows, budget)
        seen = None if self._exact(size, needs) else self._seen(size, needs)
        if seen is None:
            return replace(once(rows, budget), searched={"how": "exact"})
        return (self._among_candidates if self.how == "candidates" else self._in_parts)(once, rows, size, seen, seed)

    def _exact(self, size: Size, needs: Needs) -> bool:
        return self.how == "exact" or size.free < 2 or (self.how == "auto" and self._fits(needs(size)))

    def _among_candidates(self, once: Choose, rows: Rows, size: Size, seen: Size, seed: int) -> Picks:
        count = min(self.candidates * size.budget, seen.free)
        if count < size.budget:
            raise SelectionError(
                f"search.how = candidates: {seen.free:,} rows keep to search.memory_gib and search.minutes, and {size.budget:,} "
                "are to be picked: take partition, or raise them"
            )
        picks = of_candidates(once, rows, size.budget, count, seen.labeled, seed)
        return replace(picks, searched={"how": "candidates", "candidates": count, "labeled": seen.labeled})

    def _in_parts(self, once: Choose, rows: Rows, size: Size, seen: Size, seed: int) -> Picks:
        parts = Parts.of(size.free, seen.labeled, size.budget, seen.free, self.parts)
        picks = in_parts(once, rows, size.budget, parts, seed)
        told: dict[str, str | int] = {
            "how": "partition",
            "parts": parts.count,
            "each": parts.each,
            "labeled": parts.labeled,
        }
        if parts.again:
            told["again"] = min(parts.room, size.free)
        return replace(picks, searched=told)

    def _fits(self, demand: Demand) -> bool:
        return demand.gib <= self.memory_gib and demand.minutes <= self.minutes

    def _seen(self, size: Size, needs: Needs) -> Size | None:
        """The most rows that a choice may see, so that it keeps to the memory, and all of them to the time.

        None where fewer rows would take as long, and all are small enough: then all it is.
        """

        def fits(n: int) -> bool:
            one = size.of_rows(n)
            calls = 1 if self.how == "candidates" else 1 + -(-size.free // one.free)
            return self._fits(needs(one).times(calls))

        halves = (size.n >> i for i in range(size.n.bit_length() - 1))
        low = next((n for n in halves if fits(n)), 0)
        if low == 0:
            if self.how == "auto" and needs(size).gib <= self.memory_gib:
                return None
            raise SelectionError(
                f"a choice of {size.budget:,} from {size.free:,} rows keeps neither whole nor in parts to search.memory_gib = "
                f"{self.memory_gib:g} and search.minutes = {self.minutes:g}: raise them, or take search.how = exact"
            )
        high = min(2 * low - 1, size.n)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return size.of_rows(low)


def told(searched: Mapping[str, str | int]) -> str:
    """What `Picks.searched` says, for people; nothing of an exact choice."""
    number = {name: f"{value:,}" for name, value in searched.items() if isinstance(value, int)}
    if searched.get("how") == "candidates":
        return (
            f"the batch was chosen among the {number['candidates']} samples that score the most, beside {number['labeled']} "
            "labeled ones, and not among all (search.how)"
        )
    if searched.get("how") != "partition":
        return ""
    then = (
        f", then among these with others, {number['again']} in all"
        if "again" in searched
        else ", its share of the batch"
    )
    return (
        f"the batch was chosen in {number['parts']} random parts, up to {number['each']} in each beside {number['labeled']} "
        f"labeled samples{then}, and not among all at once (search.how)"
    )
