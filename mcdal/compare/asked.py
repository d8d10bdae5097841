"""What a comparison is asked for: `--strategies mcdal,random,mcdal[heads=4] --seeds 0-4`, as one command a cell."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mcdal.command import Command
from mcdal.errors import ConfigError
from mcdal.plan import Plan

MOST_SEEDS = 10_000
"""A range of more is a slip of the keyboard."""


@dataclass(frozen=True)
class Entry:
    """One side of a comparison: a strategy, and what is set on it. settings: "heads=4", without the word `strategy`."""

    strategy: str
    settings: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return self.strategy + (f"[{','.join(self.settings)}]" if self.settings else "")


def entries(text: str) -> list[Entry]:
    """`mcdal,random,mcdal[heads=4,distance=kl]`. ConfigError where it cannot be read or names a side twice."""
    found = [_entry(part, text) for part in _split(text)]
    if not found:
        raise ConfigError("--strategies is empty: name some, such as mcdal,random,margin")
    twice = {entry.title for entry in found if found.count(entry) > 1}
    if twice:
        raise ConfigError(f"--strategies {text}: {min(twice)} is named twice")
    return found


def seeds(text: str) -> list[int]:
    """`0-4`, `0,2,5`, `0-2,7`: in ascending order, each once."""
    found: set[int] = set()
    for part in text.split(","):
        numbers = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if numbers is None:
            raise ConfigError(f"--seeds {text}: {part.strip() or 'an empty part'} is no seed; write 0-4 or 0,2,5")
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if last < first or last - first >= MOST_SEEDS:
            raise ConfigError(f"--seeds {text}: {part.strip()} is no range of seeds; write 0-4 or 0,2,5")
        found.update(range(first, last + 1))
    return sorted(found)


def commands(of: Command, sides: Sequence[Entry], seeds: Sequence[int]) -> list[tuple[Command, Plan]]:
    """Every cell, seed by seed. `of` says all the rest. ConfigError before anything runs where one of them cannot be."""
    made: list[tuple[Command, Plan]] = []
    sides_of: dict[str, str] = {}
    for seed in seeds:
        for side in sides:
            settings = (*of.settings, *(f"strategy.{setting}" for setting in side.settings))
            command = replace(of, strategy=side.strategy, seed=seed, settings=settings)
            try:
                plan = command.plan()
            except ConfigError as error:
                raise ConfigError(f"{side.title}: {error}") from error
            if plan.run_id in sides_of:
                raise ConfigError(
                    f"{sides_of[plan.run_id]} and {side.title} are the same run, {plan.run_id}: name it once"
                )
            sides_of[plan.run_id] = side.title
            made.append((command, plan))
    return made


def _entry(part: str, text: str) -> Entry:
    given = re.fullmatch(r"\s*([^\[\]]+?)\s*(?:\[(.*)\])?\s*", part)
    if given is None:
        raise ConfigError(f"--strategies {text}: cannot read {part.strip()!r}; write mcdal,random,mcdal[heads=4]")
    return Entry(given[1], tuple(setting.strip() for setting in _split(given[2] or "")))


def _split(text: str) -> list[str]:
    """At commas that are outside all brackets; empty parts are left out."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [part for part in parts if part.strip()]
