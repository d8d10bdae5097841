"""The record of runs: one SQLite file. The only state there is; whatever is not in it did not happen.

Each method is one transaction: after a kill the store holds all of it or nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DatabaseError

from mcdal import schema
from mcdal.errors import StoreError
from mcdal.migrations import migrate
from mcdal.pool.base import Quarantined
from mcdal.values import Ids, Label, Metrics, Picks

FILE_NAME = "mcdal.db"


@dataclass(frozen=True)
class RunRecord:
    """A run as it was begun: everything that decides its result."""

    run_id: str
    recipe: str
    scale: str
    strategy: str
    seed: int
    overrides: Mapping[str, str]
    config: Mapping[str, Any]
    classes: Sequence[str]
    pool_size: int
    data_fingerprint: str
    notes: Sequence[str]


@dataclass(frozen=True)
class RoundRecord:
    """A round. finished_at is None until its model is trained, tested and kept; seconds are by phase."""

    round: int
    seed: int
    labeled: int
    started_at: datetime
    finished_at: datetime | None
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class MetricRecord:
    """One number of a round."""

    round: int
    name: str
    value: float


class Store:
    """Runs, rounds, queries, labels and metrics in `folder / mcdal.db`."""

    def __init__(self, folder: Path, create: bool = True):
        self.path = folder / FILE_NAME
        if not create and not self.path.exists():
            raise StoreError(
                f"no store in {folder}: {self.path} does not exist; `mcdal run ... --out {folder}` makes one"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write to {folder}: {error.strerror}; give another --out") from error
        self._engine = _sqlite_engine(self.path)
        with self._write() as connection:
            migrate(connection, str(self.path))

    def close(self) -> None:
        self._engine.dispose()

    # Runs

    def add_run(self, record: RunRecord, quarantined: Sequence[Quarantined] = ()) -> None:
        """Begins a run. Raises StoreError where a run of this id exists."""
        with self._write() as connection:
            connection.execute(insert(schema.runs).values(**vars(record), created_at=_now()))
            if quarantined:
                rows = [{"run_id": record.run_id, "sample_id": q.id, "reason": q.reason} for q in quarantined]
                connection.execute(insert(schema.quarantine), rows)

    def run(self, run_id: str) -> RunRecord | None:
        """The run of this id, or None."""
        with self.read() as connection:
            row = connection.execute(select(schema.runs).where(schema.runs.c.run_id == run_id)).one_or_none()
        return None if row is None else _record(row)

    def runs(self) -> list[RunRecord]:
        """All runs, the oldest first."""
        with self.read() as connection:
            return [_record(row) for row in connection.execute(select(schema.runs).order_by(schema.runs.c.created_at))]

    def begin_session(self, run_id: str, environment: Mapping[str, Any]) -> int:
        """Notes that a process started to work on the run; gives the number of this session."""
        row = {"run_id": run_id, "started_at": _now(), "environment": dict(environment)}
        with self._write() as connection:
            result = connection.execute(insert(schema.sessions).values(**row))
            assert result.inserted_primary_key is not None
            return int(result.inserted_primary_key[0])

    def end_session(self, session_id: int, outcome: str) -> None:
        """Notes how the session ended: done, waiting, stopped, or the error in words."""
        where = schema.sessions.c.session_id == session_id
        with self._write() as connection:
            connection.execute(update(schema.sessions).where(where).values(ended_at=_now(), outcome=outcome))

    def last_environment(self, run_id: str) -> Mapping[str, str] | None:
        """What the latest session computed with, or None before the first."""
        s = schema.sessions.c
        query = select(s.environment).where(s.run_id == run_id).order_by(s.session_id.desc()).limit(1)
        with self.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    # Rounds

    def begin_round(self, run_id: str, round: int, seed: int, picks: Picks, scored: bool, seconds: Metrics) -> None:
        """Records a round and what it asks for, at once. `seconds`: what measuring and selecting took."""
        asked = [
            {"run_id": run_id, "round": round, "sample_id": id, "score": float(score) if scored else None, "rank": rank}
            for rank, (id, score) in enumerate(zip(picks.ids, picks.score, strict=True))
        ]
        with self._write() as connection:
            mine = schema.queries.c.run_id == run_id
            before = connection.execute(select(func.count()).select_from(schema.queries).where(mine)).scalar_one()
            row = {"run_id": run_id, "round": round, "seed": seed, "labeled": before + len(asked), "started_at": _now()}
            connection.execute(insert(schema.rounds).values(**row, seconds=dict(seconds)))
            connection.execute(insert(schema.queries), asked)

    def finish_round(self, run_id: str, round: int, metrics: Metrics, seconds: Metrics) -> None:
        """Records what a round reached, and that it is over."""
        where = (schema.rounds.c.run_id == run_id) & (schema.rounds.c.round == round)
        with self._write() as connection:
            old = connection.execute(select(schema.rounds.c.seconds).where(where)).scalar_one()
            values = {"finished_at": _now(), "seconds": {**old, **seconds}}
            connection.execute(update(schema.rounds).where(where).values(**values))
            rows = [{"run_id": run_id, "round": round, "name": name, "value": v} for name, v in metrics.items()]
            connection.execute(insert(schema.metrics), rows)

    def rounds(self, run_id: str) -> list[RoundRecord]:
        """The rounds begun so far, in order."""
        r = schema.rounds.c
        query = select(r.round, r.seed, r.labeled, r.started_at, r.finished_at, r.seconds)
        with self.read() as connection:
            return [RoundRecord(*row) for row in connection.execute(query.where(r.run_id == run_id).order_by(r.round))]

    def metrics(self, run_id: str) -> list[MetricRecord]:
        """Every number recorded, by round and name."""
        m = schema.metrics.c
        query = select(m.round, m.name, m.value).where(m.run_id == run_id).order_by(m.round, m.name)
        with self.read() as connection:
            return [MetricRecord(*row) for row in connection.execute(query)]

    # Queries and labels

    def asked(self, run_id: str, round: int) -> Ids:
        """What a round asked for, most wanted first."""
        q = schema.queries.c
        query = select(q.sample_id).where(q.run_id == run_id, q.round == round).order_by(q.rank)
        with self.read() as connection:
            return tuple(connection.execute(query).scalars())

    def add_labels(self, run_id: str, given: Sequence[Label]) -> None:
        """Appends labels. The same label said again (same sample, class, person and time) is kept once."""
        rows = [
            {
                "run_id": run_id,
                "sample_id": label.sample_id,
                "value": label.value,
                "by": label.by,
                "at": label.at,
                "key": f"{label.sample_id}/{label.value}/{label.by}/{label.at.isoformat()}",
            }
            for label in given
        ]
        if rows:
            with self._write() as connection:
                connection.execute(sqlite_insert(schema.labels).on_conflict_do_nothing(), rows)

    def labels(self, run_id: str, through: int | None = None) -> dict[str, int]:
        """The newest label of each sample, of those asked for in rounds 0 to `through` (default: all)."""
        newest = (
            select(func.max(schema.labels.c.label_id).label("label_id"))
            .where(schema.labels.c.run_id == run_id)
            .group_by(schema.labels.c.sample_id)
            .subquery()
        )
        query = select(schema.labels.c.sample_id, schema.labels.c.value).join(
            newest, newest.c.label_id == schema.labels.c.label_id
        )
        if through is not None:
            q = schema.queries.c
            asked = select(q.sample_id).where(q.run_id == run_id, q.round <= through)
            query = query.where(schema.labels.c.sample_id.in_(asked))
        with self.read() as connection:
            return {id: value for id, value in connection.execute(query.order_by(schema.labels.c.sample_id))}

    # Transactions

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the store throughout."""
        with _in_words(self.path), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """One transaction that takes the write lock at once: committed whole, or not at all."""
        with (
            _in_words(self.path),
            self._engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            yield connection


def _sqlite_engine(path: Path) -> Engine:
    """WAL, so that readers never wait; synchronous FULL, so that what was committed survives a power cut."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


ADVICE = (
    ("disk is full", "the disk is full: free some space and run the same command again; nothing recorded is lost"),
    ("not a database", "this is not an mcdal store, or it is damaged: restore it from a backup, or use another --out"),
    (
        "malformed",
        "the file is damaged: restore it from a backup, or save what can be read with `sqlite3 FILE .recover`",
    ),
    ("readonly", "the file or its folder cannot be written: change its permissions, or use another --out"),
    ("unable to open", "the file cannot be opened: check the folder and its permissions, or use another --out"),
    ("locked", "another process has held the store for 30 seconds: end it, or use another --out"),
    (
        "disk I/O error",
        "the disk gave an error: check it (and that it is not a network folder), then run the command again",
    ),
)


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Database errors as StoreErrors that name the file and say what to do."""
    try:
        yield
    except DatabaseError as error:
        said = str(error.orig)
        advice = next((advice for part, advice in ADVICE if part in said), "nothing was changed")
        raise StoreError(f"{path}: {said}: {advice}") from error


def _record(row: Any) -> RunRecord:
    values = dict(row._mapping)
    del values["created_at"]
    return RunRecord(**values)


def _now() -> datetime:
    return datetime.now(UTC)
