"""Where a comparison stands: a table of strategies by seeds while somebody looks, lines for logs and pipes, or lines of JSON."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mcdal.compare.cell import Cell
from mcdal.compare.play import Tell
from mcdal.console import duration

SECONDS_BETWEEN_LINES = 60.0
MARKS = {"waiting": "·", "failed": "failed"}


@contextmanager
def board(cells: Sequence[Cell], workers: int, quiet: bool, as_json: bool) -> Iterator[Tell]:
    """What to pass as `tell`. The table goes to standard error, lines to standard output."""
    console = Console(stderr=True, highlight=False)
    if as_json:
        yield _json
    elif quiet or not console.is_terminal or console.is_dumb_terminal:
        yield Lines(cells, workers, quiet).tell
    else:
        with Live(get_renderable=lambda: table(cells, workers), console=console, refresh_per_second=4):
            yield lambda kind, cell, said: _note(console, kind, cell, said)
        for cell in cells:
            if cell.state == "failed":
                console.print(Text(f"{cell.title}, seed {cell.plan.seed}: failed: {cell.why}"))


def _note(console: Console, kind: str, cell: Cell, said: dict[str, Any]) -> None:
    """Above the table, which shows all else."""
    if kind == "note":
        console.print(Text(f"{cell.title}, seed {cell.plan.seed}: {said['text']}"))


def left(cells: Sequence[Cell], workers: int) -> float | None:
    """Seconds until all are done, from what cells of the same strategy took or will take; None before anything is known."""
    known: dict[str, list[float]] = {}
    for cell in cells:
        if cell.seconds is not None:
            known.setdefault(cell.title, []).append(cell.seconds)
    if not known:
        return None
    usual = median(seconds for of in known.values() for seconds in of)
    waiting = [median(known.get(cell.title, [usual])) for cell in cells if cell.state == "waiting"]
    running = [usual if cell.left is None else cell.left for cell in cells if cell.state == "running"]
    # No run is shared between processes: the longest one is the least that it takes.
    return max([(sum(waiting) + sum(running)) / workers, *running, *waiting], default=0.0)


def summary(cells: Sequence[Cell], workers: int) -> str:
    """`7 of 15 done, 2 running, 1 failed; about 12 min left`."""
    count = {state: sum(cell.state == state for cell in cells) for state in ("done", "running", "failed")}
    said = [f"{count['done']} of {len(cells)} runs done"]
    said += [f"{count[state]} {state}" for state in ("running", "failed") if count[state]]
    ahead = left(cells, workers)
    over = count["done"] + count["failed"] == len(cells)
    return ", ".join(said) + ("" if ahead is None or over else f"; about {duration(ahead)} left")


def table(cells: Sequence[Cell], workers: int) -> RenderableType:
    """A row a strategy and a column a seed: its last value where it is done, its round while it runs."""
    seeds = sorted({cell.plan.seed for cell in cells})
    rows: dict[str, dict[int, Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.title, {})[cell.plan.seed] = cell
    made = Table(box=None, pad_edge=False)
    made.add_column("seed", no_wrap=True)
    for seed in seeds:
        made.add_column(str(seed), justify="right", no_wrap=True)
    for title, of in rows.items():
        made.add_row(Text(title), *(Text(mark(of[seed])) for seed in seeds))
    return Group(made, Text(summary(cells, workers)))


def mark(cell: Cell) -> str:
    """What stands for a cell in the table."""
    if cell.state == "running":
        return f"{cell.rounds_done}/{cell.rounds}"
    if cell.state == "done":
        return "done" if cell.value is None else f"{100 * cell.value:.1f}"
    return MARKS[cell.state]


class Lines:
    """For logs and pipes: a line where a run ends, and, unless quiet, once a minute where all stand."""

    def __init__(self, cells: Sequence[Cell], workers: int, quiet: bool):
        self._cells, self._workers, self._quiet = cells, workers, quiet
        self._spoken = time.monotonic()

    def tell(self, kind: str, cell: Cell, said: dict[str, Any]) -> None:
        if kind == "end" and cell.state == "failed":
            self._say(f"{cell.title}, seed {cell.plan.seed}: failed: {cell.why}")
        elif kind == "note":
            self._say(f"{cell.title}, seed {cell.plan.seed}: {said['text']}")
        elif self._quiet:
            return
        elif kind == "end":
            reached = "" if cell.value is None else f", {100 * cell.value:.2f} % with {cell.labels:,} labels"
            self._say(f"{cell.title}, seed {cell.plan.seed}: done{reached}; {summary(self._cells, self._workers)}")
        elif time.monotonic() - self._spoken > SECONDS_BETWEEN_LINES:
            self._say(summary(self._cells, self._workers))

    def _say(self, text: str) -> None:
        print(text, flush=True)  # noqa: T201
        self._spoken = time.monotonic()


def _json(kind: str, cell: Cell, said: dict[str, Any]) -> None:
    """Events begin, note and end of a run, and results of its rounds, each with the run's id."""
    plain = {"run_id": cell.plan.run_id, "strategy": cell.title, "seed": cell.plan.seed}
    if kind in ("begin", "note", "end"):
        more = {"state": cell.state, "why": cell.why} if kind == "end" else said
        print(json.dumps({"event": kind, **plain, **more}), flush=True)  # noqa: T201
    elif kind == "event" and "labels" in said:
        print(json.dumps({"event": "result", **plain, **said}, default=str), flush=True)  # noqa: T201
