"""Reads runs from the store into plain values: one state of the store throughout, nothing is changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, func, select

from mcdal import schema
from mcdal.artifacts import Artifacts
from mcdal.errors import StoreError
from mcdal.pool.base import Quarantined
from mcdal.store import RunRecord, Store
from mcdal.values import Ids


@dataclass(frozen=True)
class Session:
    """One process that worked on the run. Times in UTC; `outcome` is None while at work and after a kill."""

    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class Round:
    """One round: what it asked for, and what the model trained on it reached.

    labeled: samples with this round's picks included. picks: ids, most wanted first. scores: one a pick, or None.
    seconds: by phase. metrics: empty until the round is finished.
    """

    number: int
    labeled: int
    started_at: datetime
    finished_at: datetime | None
    seconds: Mapping[str, float]
    picks: Ids
    scores: Sequence[float | None]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """Everything the store knows of a run. held: some process is working on it now."""

    record: RunRecord
    rounds: Sequence[Round]
    sessions: Sequence[Session]
    labels: Mapping[str, int]
    quarantine: Sequence[Quarantined]
    artifacts: Artifacts
    held: bool

    @property
    def finished(self) -> list[Round]:
        """The rounds that are over, in order."""
        return [r for r in self.rounds if r.finished_at is not None]

    def unanswered(self, round: Round) -> int:
        """How many of a round's picks have no label yet."""
        return sum(id not in self.labels for id in round.picks)


def read_runs(out: Path, run_ids: Sequence[str] = ()) -> list[Run]:
    """The runs of these ids in their order, or all of them, the oldest first. Raises StoreError for an unknown id."""
    store = Store(out, create=False)
    try:
        known = {record.run_id: record for record in store.runs()}
        if missing := [id for id in run_ids if id not in known]:
            there = ", ".join(known) or "none"
            raise StoreError(f"no run {', '.join(map(repr, missing))} in {out}; the runs there are: {there}")
        wanted = dict.fromkeys(run_ids or known)
        with store.read() as connection:
            return [_read(connection, known[id], Artifacts(out / "runs" / id)) for id in wanted]
    finally:
        store.close()


def _read(connection: Connection, record: RunRecord, artifacts: Artifacts) -> Run:
    run_id = record.run_id
    sessions = _rows(connection, schema.sessions, run_id, "session_id")
    return Run(
        record=record,
        rounds=_rounds(connection, run_id),
        sessions=[Session(s.started_at, s.ended_at, s.outcome, s.environment) for s in sessions],
        labels=_labels(connection, run_id),
        quarantine=[
            Quarantined(q.sample_id, q.reason) for q in _rows(connection, schema.quarantine, run_id, "sample_id")
        ],
        artifacts=artifacts,
        held=artifacts.held(),
    )


def _rounds(connection: Connection, run_id: str) -> list[Round]:
    queries: dict[int, list[Any]] = {}
    for q in _rows(connection, schema.queries, run_id, "rank"):
        queries.setdefault(q.round, []).append(q)
    metrics: dict[int, dict[str, float]] = {}
    for m in _rows(connection, schema.metrics, run_id, "name"):
        metrics.setdefault(m.round, {})[m.name] = m.value
    return [
        Round(
            number=r.round,
            labeled=r.labeled,
            started_at=r.started_at,
            finished_at=r.finished_at,
            seconds={phase: float(s) for phase, s in r.seconds.items()},
            picks=tuple(q.sample_id for q in queries.get(r.round, ())),
            scores=tuple(q.score for q in queries.get(r.round, ())),
            metrics=metrics.get(r.round, {}),
        )
        for r in _rows(connection, schema.rounds, run_id, "round")
    ]


def _labels(connection: Connection, run_id: str) -> dict[str, int]:
    """The newest label of each sample."""
    table = schema.labels.c
    newest = select(func.max(table.label_id)).where(table.run_id == run_id).group_by(table.sample_id)
    query = select(table.sample_id, table.value).where(table.label_id.in_(newest))
    return {row.sample_id: row.value for row in connection.execute(query)}


def _rows(connection: Connection, table: Table, run_id: str, order: str) -> Sequence[Any]:
    return connection.execute(select(table).where(table.c.run_id == run_id).order_by(table.c[order])).all()
