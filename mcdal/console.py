"""Tells a person, or a program, what is going on: bars, plain lines, or lines of JSON."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mcdal.events import Listener

WORDS = {"prepare": "reading images", "train": "training", "measure": "measuring the pool", "test": "testing"}


@contextmanager
def listener(quiet: bool, as_json: bool) -> Iterator[Listener]:
    """What to pass as `listen`. Bars go to standard error, so that results can be piped."""
    if as_json:
        yield _json_line
    elif quiet or not sys.stderr.isatty():
        yield _Lines(quiet).tell
    else:
        with _Bars() as bars:
            yield bars.tell


def _json_line(kind: str, **fields: object) -> None:
    print(json.dumps({"event": kind, **fields}, default=str), flush=True)  # noqa: T201


class _Lines:
    """For logs and pipes: results and problems, and where it stands unless quiet."""

    def __init__(self, quiet: bool):
        self._quiet = quiet
        self._console = Console(soft_wrap=True, highlight=False)

    def tell(self, kind: str, **fields: Any) -> None:
        text = _sentence(kind, fields)
        if text and (kind in ("result", "notice") or not self._quiet):
            self._console.print(text, markup=False)


class _Bars:
    """One bar for the run's rounds and one for what is being done now."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:>6}/{task.total:<6}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
            console=self._console,
            transient=True,
        )
        self._rounds: TaskID | None = None
        self._now: TaskID | None = None
        self._kind = ""

    def __enter__(self) -> "_Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, kind: str, **fields: Any) -> None:
        if kind in WORDS:
            self._advance(kind, fields)
        elif kind == "round":
            total = fields["rounds"]
            if self._rounds is None:
                self._rounds = self._progress.add_task("rounds", total=total, said="")
            self._progress.update(self._rounds, completed=fields["round"], description=f"round {fields['round']}")
        if text := _sentence(kind, fields):
            self._progress.console.print(text, markup=False)

    def _advance(self, kind: str, fields: dict[str, Any]) -> None:
        if self._now is None or self._kind != kind or fields["done"] < self._progress.tasks[-1].completed:
            if self._now is not None:
                self._progress.remove_task(self._now)
            self._now = self._progress.add_task(WORDS[kind], total=fields["total"], said="")
            self._kind = kind
        said = "  ".join(
            f"{name.removeprefix('train/')} {fields[name]:.3f}"
            for name in ("train/loss", "train/accuracy")
            if name in fields
        )
        self._progress.update(self._now, completed=fields["done"], total=fields["total"], said=said)


def _sentence(kind: str, fields: dict[str, Any]) -> str:
    """A line for a person on what is worth a line."""
    if kind == "run":
        return f"run {fields['run_id']}: {fields['rounds']} rounds"
    if kind == "result":
        reached = f"{100 * fields['test/accuracy']:.2f} % test accuracy" if "test/accuracy" in fields else ""
        return f"round {fields['round']}: {fields['labels']:,} labels, {reached}"
    if kind == "notice":
        return f"note: {fields['text']}"
    if kind == "hint":
        return f"next: {fields['text']}"
    return ""
