"""Reads runs from the store into plain values: one state of the store throughout, nothing is changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import groupby, repeat
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from sqlalchemy import Connection, Table, select

from mcdal import schema
from mcdal.artifacts import Artifacts
from mcdal.database import plain_rows
from mcdal.errors import McdalError, StoreError
from mcdal.pool.base import Quarantined
from mcdal.report.kinds import MASKS, ONE_CLASS, Kind
from mcdal.store import RunRecord, Store
from mcdal.values import VOID, Ids

NO_LABEL = np.iinfo(np.int64).min


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
    seconds: by phase. metrics: empty until the round is finished. searched: how the batch was searched for, where not exactly.
    """

    number: int
    labeled: int
    started_at: datetime
    finished_at: datetime | None
    seconds: Mapping[str, float]
    picks: Ids
    scores: Sequence[float | None]
    metrics: Mapping[str, float]
    searched: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """Everything the store knows of a run. held: some process is working on it now.

    labels: class indices, or numbers of masks. shown: the classes that each of these masks shows. faults: masks that could
    not be read, in words.
    """

    record: RunRecord
    rounds: Sequence[Round]
    sessions: Sequence[Session]
    labels: Mapping[str, int]
    quarantine: Sequence[Quarantined]
    artifacts: Artifacts
    held: bool
    shown: Mapping[int, Sequence[int]] = field(default_factory=dict)
    faults: Sequence[str] = ()

    @property
    def kind(self) -> Kind:
        """What a label of this run is: as was recorded, or as its metrics tell."""
        told = self.record.config.get("task") == MASKS.task.name
        return MASKS if told or any(MASKS.headline in r.metrics for r in self.rounds) else ONE_CLASS

    @property
    def finished(self) -> list[Round]:
        """The rounds that are over, in order."""
        return [r for r in self.rounds if r.finished_at is not None]

    @cached_property
    def given(self) -> Mapping[int, Int[np.ndarray, " p"]]:
        """By round, the labels of its picks; `NO_LABEL` of those that have none yet."""
        labels = self.labels
        return {
            r.number: np.fromiter(map(labels.get, r.picks, repeat(NO_LABEL)), dtype=np.int64, count=len(r.picks))
            for r in self.rounds
        }

    def unanswered(self, round: Round) -> int:
        """How many of a round's picks have no label yet."""
        return int((self.given[round.number] == NO_LABEL).sum())


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
            found = [_read(connection, known[id], Artifacts(out / "runs" / id)) for id in wanted]
        looking = ShownClasses(store)
        return [looking.at(run) if run.kind is MASKS else run for run in found]
    finally:
        store.close()


class ShownClasses:
    """Which classes the masks of a store show. Each mask is read once, however many runs were given it."""

    def __init__(self, store: Store):
        self._store = store
        self._known: dict[int, tuple[int, ...]] = {}
        self._faults: dict[int, str] = {}

    def at(self, run: Run) -> Run:
        """The run with what its masks show."""
        numbers = dict.fromkeys(run.labels.values())
        for number in numbers:
            if number not in self._known and number not in self._faults:
                self._look(number)
        shown = {n: self._known[n] for n in numbers if n in self._known}
        return replace(run, shown=shown, faults=[self._faults[n] for n in numbers if n in self._faults])

    def _look(self, number: int) -> None:
        try:
            pixels = self._store.mask_pixels(number)
        except McdalError as error:
            self._faults[number] = str(error)
        else:
            self._known[number] = tuple(np.flatnonzero(pixels[:VOID]).tolist())


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
    queries = _queries(connection, run_id)
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
            picks=picks,
            scores=scores,
            metrics=metrics.get(r.round, {}),
            searched=r.searched or {},
        )
        for r in _rows(connection, schema.rounds, run_id, "round")
        for picks, scores in [queries.get(r.round, ((), ()))]
    ]


def _queries(connection: Connection, run_id: str) -> dict[int, tuple[Ids, tuple[float | None, ...]]]:
    """Of each round, what was asked for and with which scores, most wanted first."""
    q = schema.queries.c
    rows = plain_rows(connection, select(q.round, q.rank, q.sample_id, q.score).where(q.run_id == run_id))
    rows.sort(key=itemgetter(0, 1))  # they nearly are in this order, which SQLite does not know
    found: dict[int, tuple[Ids, tuple[float | None, ...]]] = {}
    for round, asked in groupby(rows, key=itemgetter(0)):
        _, _, picks, scores = zip(*asked, strict=True)
        found[round] = picks, scores
    return found


def _labels(connection: Connection, run_id: str) -> dict[str, int]:
    """The newest label of each sample."""
    given = schema.labels.c
    query = select(given.sample_id, given.value).where(given.run_id == run_id).order_by(given.label_id)
    return dict(plain_rows(connection, query))  # a later row takes the place of an earlier one


def _rows(connection: Connection, table: Table, run_id: str, order: str) -> Sequence[Any]:
    return connection.execute(select(table).where(table.c.run_id == run_id).order_by(table.c[order])).all()
