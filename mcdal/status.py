"""What is running, done or broken: read from the store and the locks, so that it is true also after a kill."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from mcdal import schema
from mcdal.artifacts import Artifacts
from mcdal.store import Store


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands. state: running, done, waiting (for labels), interrupted, or broken; `why` says more on the last two."""

    run_id: str
    state: str
    rounds_done: int
    rounds: int
    labels: int
    accuracy: float | None
    sessions: int
    why: str


def status(out: Path) -> list[RunStatus]:
    """Every run of the store in `out`, the oldest first."""
    store = Store(out, create=False)
    try:
        return [_of(store, out, record.run_id, record.config["protocol"]["rounds"]) for record in store.runs()]
    finally:
        store.close()


def _of(store: Store, out: Path, run_id: str, total: int) -> RunStatus:
    r, m, s = schema.rounds.c, schema.metrics.c, schema.sessions.c
    with store.read() as connection:
        done, labels = connection.execute(
            select(func.count(), func.coalesce(func.max(r.labeled), 0)).where(
                r.run_id == run_id, r.finished_at.is_not(None)
            )
        ).one()
        accuracy = connection.execute(
            select(m.value).where(m.run_id == run_id, m.name == "test/accuracy").order_by(m.round.desc()).limit(1)
        ).scalar_one_or_none()
        sessions = connection.execute(select(func.count()).where(s.run_id == run_id)).scalar_one()
        outcome = connection.execute(
            select(s.outcome).where(s.run_id == run_id).order_by(s.session_id.desc()).limit(1)
        ).scalar_one_or_none()
    state, why = _state(Artifacts(out / "runs" / run_id).held(), done >= total, outcome)
    return RunStatus(run_id, state, done, total, labels, accuracy, sessions, why)


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
    for name in ("run", "state", "round", "labels", "accuracy", "sessions", ""):
        table.add_column(name, overflow="fold")
    for each in runs:
        accuracy = "" if each.accuracy is None else f"{100 * each.accuracy:.2f} %"
        rounds = f"{each.rounds_done}/{each.rounds}"
        table.add_row(each.run_id, each.state, rounds, f"{each.labels:,}", accuracy, str(each.sessions), each.why)
    Console(highlight=False).print(table)
