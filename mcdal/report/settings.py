"""What a run was set to, and where it ran, as rows of a table."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcdal.report.queries import Run
from mcdal.twins import LENDS


@dataclass(frozen=True)
class Setting:
    """One field. changed: given by hand, against the recipe."""

    name: str
    value: str
    changed: bool = False


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings as dotted names: {"source": {"size": 8}} -> ("source.size", "8")."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def config_sections(run: Run) -> dict[str, list[Setting]]:
    """The configuration by its first word; fields that stand alone come first, under an empty word."""
    sections: dict[str, list[Setting]] = {"": []}
    for name, value in flat(run.record.config):
        if name in ("notes", LENDS):  # the page tells notes at its top, and nobody sets the other
            continue
        first, dot, rest = name.partition(".")
        setting = Setting(rest if dot else name, value, changed=name in run.record.overrides)
        sections.setdefault(first if dot else "", []).append(setting)
    return {section: fields for section, fields in sections.items() if fields}


def common_sections(runs: Sequence[Run]) -> dict[str, list[Setting]]:
    """Of several runs, the fields that are the same in all; marked as changed where they were in all."""
    each = [config_sections(run) for run in runs]
    if not each:
        return {}
    shared = {
        section: [field for field in fields if all(field in other.get(section, ()) for other in each)]
        for section, fields in each[0].items()
    }
    return {section: fields for section, fields in shared.items() if fields}


def environment(run: Run) -> list[Setting]:
    """Of the last session; a field that differed in an earlier session is marked and tells what it was."""
    if not run.sessions:
        return []
    *earlier, last = [dict(flat(s.environment)) for s in run.sessions]
    rows = []
    for name, value in last.items():
        before = dict.fromkeys(e[name] for e in earlier if e.get(name, value) != value)
        rows.append(Setting(name, value + (f" (before: {', '.join(before)})" if before else ""), changed=bool(before)))
    return rows
