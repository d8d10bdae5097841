"""What a comparison is asked for: `--strategies mcdal,random,mcdal[heads=4] --seeds 0-4`, as one command a cell."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mcdal.command import Command
from mcdal.errors import ConfigError
from mcdal.plan import Plan, decisive
from mcdal.settings import to_json

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


def variations(texts: Sequence[str]) -> list[tuple[str, ...]]:
    """`protocol.budget=10,20`, given any number of times: every combination, as settings. One without any where none is given."""
    made: list[tuple[str, ...]] = [()]
    for text in texts:
        path, _, values = text.partition("=")
        found = [value.strip() for value in _split(values)]
        if len(found) < 2 or len(set(found)) < len(found):
            raise ConfigError(f"--vary {text}: write FIELD=A,B with different values, such as protocol.budget=50,100")
        made = [(*before, f"{path.strip()}={value}") for before in made for value in found]
    return made


def commands(
    of: Command, sides: Sequence[Entry], seeds: Sequence[int], varied: Sequence[tuple[str, ...]] = ((),)
) -> list[tuple[Command, Plan]]:
    """Every cell, seed by seed. `of` says all the rest. ConfigError before anything runs where one of them cannot be."""
    made: list[tuple[Command, Plan]] = []
    of_run: dict[str, str] = {}
    of_config: dict[tuple[int, str], str] = {}
    for seed in seeds:
        for settings in varied:
            for side in sides:
                command = _command(of, side, seed, settings)
                plan = _plan(command, side, replace(of, settings=(*of.settings, *settings)))
                content = seed, json.dumps(decisive(to_json(plan.config)), sort_keys=True)
                before = of_run.setdefault(plan.run_id, side.title), of_config.setdefault(content, side.title)
                if before[0] != side.title:
                    raise ConfigError(f"{before[0]} and {side.title} are the same run, {plan.run_id}: name it once")
                if before[1] != side.title:
                    raise ConfigError(
                        f"{before[1]} and {side.title} are the same, since one sets defaults: name it once"
                    )
                made.append((command, plan))
    return made


def _command(of: Command, side: Entry, seed: int, settings: Sequence[str]) -> Command:
    own = (f"strategy.{setting}" for setting in side.settings)
    return replace(of, strategy=side.strategy, seed=seed, settings=(*of.settings, *settings, *own))


def _plan(command: Command, side: Entry, of: Command) -> Plan:
    """of: what all sides have."""
    try:
        return command.plan()
    except ConfigError as error:
        of_all = tuple(setting for setting in of.settings if not setting.startswith("strategy."))
        replace(of, settings=of_all).plan()  # where no strategy is at fault, it says so itself
        raise ConfigError(f"{side.title}: {error}") from error


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
