"""What is running, done or broken: read from the store and the locks, so that it is true also after a kill."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from mcdal import schema
from mcdal.database import Database
from mcdal.locks import is_locked


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands. state: running, done, waiting (for labels), interrupted, or broken; `why` says more on the last two.

    accuracy, mean_iou: of the last finished round, one of them by what the run learns.
    """

    run_id: str
    state: str
    rounds_done: int
    rounds: int
    labels: int
    accuracy: float | None
    sessions: int
    why: str
    mean_iou: float | None = None


def status(out: Path) -> list[RunStatus]:
    """Every run of the store in `out`, the oldest first."""
    folders = out / "runs"
    # Before the store is read: a run that ends in between has then said there how.
    held = {folder.name for folder in folders.glob("*") if is_locked(folder / "lock")}
    database = Database(out, create=False)
    try:
        return [_of(row, row.run_id in held, folders / row.run_id / "lock") for row in _rows(database)]
    finally:
        database.close()


def _rows(database: Database) -> Sequence[Any]:
    """One row a run, by one query: asking run by run would take long where there are many."""
    runs, r, m, s = schema.runs.c, schema.rounds.c, schema.metrics.c, schema.sessions.c
    done = (
        select(r.run_id, func.count().label("done"), func.max(r.labeled).label("labels"))
        .where(r.finished_at.is_not(None))
        .group_by(r.run_id)
        .subquery()
    )
    count = select(s.run_id, func.count().label("sessions"), func.max(s.session_id).label("last"))
    sessions = count.group_by(s.run_id).subquery()
    accuracy, mean_iou = (
        select(m.value)
        .where(m.run_id == runs.run_id, m.name == f"test/{name}")
        .order_by(m.round.desc())
        .limit(1)
        .scalar_subquery()
        for name in ("accuracy", "mean_iou")
    )
    query = (
        select(
            runs.run_id,
            runs.config,
            done.c.done,
            done.c.labels,
            accuracy.label("accuracy"),
            mean_iou.label("mean_iou"),
            sessions.c.sessions,
            s.outcome,
        )
        .select_from(schema.runs)
        .outerjoin(done, done.c.run_id == runs.run_id)
        .outerjoin(sessions, sessions.c.run_id == runs.run_id)
        .outerjoin(schema.sessions, s.session_id == sessions.c.last)
        .order_by(runs.created_at, runs.run_id)
    )
    with database.read() as connection:
        return connection.execute(query).all()


def _of(row: Any, held: bool, lock: Path) -> RunStatus:
    total, done = row.config["protocol"]["rounds"], row.done or 0
    # Asked again of a run that has not said how it ended: it may have begun just now.
    state, why = _state(held or (row.outcome is None and is_locked(lock)), done >= total, row.outcome)
    return RunStatus(
        row.run_id, state, done, total, row.labels or 0, row.accuracy, row.sessions or 0, why, row.mean_iou
    )


def _state(held: bool, finished: bool, outcome: str | None) -> tuple[str, str]:
    if held:
        return "running", ""
    if finished:
        return "done", ""
    if outcome == "waiting":
        return "waiting", "for labels"
    if outcome is None or outcome == "stopped":
        return "interrupted", "the same command continues it"
    return "broken", outcome


def show(runs: Sequence[RunStatus], as_json: bool) -> None:
    """One line a run, for a person or as JSON."""
    if as_json:
        for each in runs:
            print(json.dumps(asdict(each)))  # noqa: T201
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "state", "round", "labels", "reached", "sessions", ""):
        table.add_column(name, overflow="fold")
    for each in runs:
        reached = "" if each.accuracy is None else f"{100 * each.accuracy:.2f} %"
        if each.mean_iou is not None:
            reached = f"{100 * each.mean_iou:.2f} % mIoU"
        rounds = f"{each.rounds_done}/{each.rounds}"
        table.add_row(each.run_id, each.state, rounds, f"{each.labels:,}", reached, str(each.sessions), each.why)
    # In a pipe there is no width to keep to: a folded id could not be searched for.
    # Without markup: an error may hold brackets, and they are not for colours.
    console = Console(highlight=False, markup=False)
    (console if console.is_terminal else Console(highlight=False, markup=False, width=1_000)).print(table)
