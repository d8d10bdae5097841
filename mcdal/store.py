"""The record of runs: one SQLite file. The only state there is; whatever is not in it did not happen.

Each method is one transaction: after a kill the store holds all of it or nothing.
"""

import json
import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, SupportsFloat

from sqlalchemy import URL, Connection, Engine, create_engine, event, false, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import DBAPIError, IntegrityError

from mcdal import schema
from mcdal.errors import StoreError
from mcdal.migrations import lacks_steps, migrate
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
    """A round. finished_at is None until its model is trained, tested and kept; seconds are by phase; times are in UTC."""

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
    """Runs, rounds, queries, labels and metrics in `folder / mcdal.db`.

    create: makes the store where there is none, and makes sure that it can be written and is whole. Without it a store is
    opened as it stands, also from a folder or disk that cannot be written.
    """

    def __init__(self, folder: Path, create: bool = True):
        self.path = folder / FILE_NAME
        self._refuse_nothing(folder, create)
        self._engine = _engine(self.path, mode="rwc" if create else "rw")
        try:
            if create:
                self._open_to_write()
            else:
                self._open_as_it_stands()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._engine.dispose()

    def _refuse_nothing(self, folder: Path, create: bool) -> None:
        """Looks from outside only: whoever opens and closes the file beside SQLite takes away SQLite's locks on it."""
        try:
            if create:
                folder.mkdir(parents=True, exist_ok=True)
            there = self.path.exists()
            if there and self.path.stat().st_size > 0:
                return
            # Rounds begin after their store. A new one would take up their half-done trainings, whatever their recipe was.
            lost = next((folder / "runs").glob("*/round_*"), None) is not None
        except OSError as error:
            verb = "write to" if create else "read"
            raise StoreError(f"cannot {verb} {folder}: {error.strerror or error}; give another --out") from error
        state = "is empty" if there else "does not exist"
        if lost:
            raise StoreError(
                f"{self.path} {state}, but there are runs beside it: restore it from a backup, or give another --out"
            )
        if not create:  # an empty file is what a kill at the very start leaves
            raise StoreError(f"no store in {folder}: {self.path} {state}; `mcdal run ... --out {folder}` makes one")

    def _open_to_write(self) -> None:
        with self.read() as connection:
            lacks_steps(connection, str(self.path))  # refuses what is not ours before anything is written
        self._use_wal()
        with self.read() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        if found != "ok":
            raise StoreError(f"{self.path}: {' '.join(found.split())}: {DAMAGED}")
        self._migrate()
        with self._write() as connection:
            # Changes nothing, but SQLite lets a transaction of a file that is read-only begin, and refuses this.
            connection.execute(update(schema.schema_version).where(false()).values(version=0))

    def _open_as_it_stands(self) -> None:
        try:
            with self.read() as connection:
                old = lacks_steps(connection, str(self.path))
        except StoreError as error:
            if not self._cannot_be_written(error) or Path(f"{self.path}-wal").exists():
                raise
            # Nobody can be writing, and nothing waits in a log: then SQLite can do without the files it keeps beside.
            self._engine.dispose()
            self._engine = _engine(self.path, mode="ro", immutable="1")
            with self.read() as connection:
                old = lacks_steps(connection, str(self.path))
        if old:
            self._use_wal()
            self._migrate()

    def _cannot_be_written(self, error: StoreError) -> bool:
        return _code(error.__cause__) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)

    def _migrate(self) -> None:
        with self._write() as connection:
            migrate(connection, str(self.path))

    def _use_wal(self) -> None:
        """Once for the file, which remembers it. SQLite says what it did instead of failing."""
        with _in_words(self.path), self._engine.connect().execution_options(begin=None) as connection:
            mode = _patiently(lambda: connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar_one())
        if mode != "wal":
            raise StoreError(
                f"{self.path}: this disk cannot hold a store safely (SQLite's write-ahead log is not possible): "
                "give an --out on a local disk"
            )

    # Runs

    def add_run(self, record: RunRecord, quarantined: Sequence[Quarantined] = ()) -> None:
        """Begins a run. Raises StoreError where a run of this id exists."""
        with self._write() as connection:
            same = select(schema.runs.c.run_id).where(schema.runs.c.run_id == record.run_id)
            if connection.execute(same).first() is not None:
                raise StoreError(f"{self.path}: the run {record.run_id} is there already; nothing was changed")
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
        query = select(schema.runs).order_by(schema.runs.c.created_at, schema.runs.c.run_id)
        with self.read() as connection:
            return [_record(row) for row in connection.execute(query)]

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
        """Records a round and what it asks for, at once. `seconds`: what measuring and selecting took.

        Raises StoreError where a sample was asked for before.
        """
        asked = [
            {
                "run_id": run_id,
                "round": round,
                "sample_id": id,
                "score": _number(score, f"the score of {id}") if scored else None,
                "rank": rank,
            }
            for rank, (id, score) in enumerate(zip(picks.ids, picks.score, strict=True))
        ]
        with self._write() as connection:
            mine = schema.queries.c.run_id == run_id
            before = connection.execute(select(func.count()).select_from(schema.queries).where(mine)).scalar_one()
            row = {"run_id": run_id, "round": round, "seed": seed, "labeled": before + len(asked), "started_at": _now()}
            connection.execute(insert(schema.rounds).values(**row, seconds=dict(seconds)))
            try:
                if asked:
                    connection.execute(insert(schema.queries), asked)
            except IntegrityError as error:
                raise StoreError(f"{self.path}: {_asked_twice(connection, run_id, round, picks.ids)}") from error

    def finish_round(self, run_id: str, round: int, metrics: Metrics, seconds: Metrics) -> None:
        """Records what a round reached, and that it is over."""
        where = (schema.rounds.c.run_id == run_id) & (schema.rounds.c.round == round)
        with self._write() as connection:
            old = connection.execute(select(schema.rounds.c.seconds).where(where)).scalar_one()
            values = {"finished_at": _now(), "seconds": {**old, **seconds}}
            connection.execute(update(schema.rounds).where(where).values(**values))
            rows = [
                {"run_id": run_id, "round": round, "name": name, "value": _number(value, f"round {round}: {name}")}
                for name, value in metrics.items()
            ]
            if rows:
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
                "value": int(label.value),  # SQLite would keep a NumPy integer as bytes
                "by": label.by,
                "at": _utc(label.at),  # the column keeps no time zone
                "key": json.dumps([label.sample_id, int(label.value), label.by, _utc(label.at).isoformat()]),
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
            rows = connection.execute(query.order_by(schema.labels.c.sample_id))
            return {row.sample_id: row.value for row in rows}

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
            self._engine.connect().execution_options(begin="BEGIN IMMEDIATE") as connection,
            connection.begin(),
        ):
            yield connection


# Of each connection: what was committed survives a power cut; what REPLACE deletes is a deletion to the triggers too.
PRAGMAS = ("synchronous=FULL", "foreign_keys=ON", "recursive_triggers=ON")

BUSY_SECONDS = 30.0


def _engine(path: Path, **how: str) -> Engine:
    """how: SQLite's own parameters of a file address. As an address the path may hold any character, `?` and `#` too."""
    url = URL.create("sqlite", database=path.absolute().as_uri(), query={"uri": "true", **how})
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        statement = connection.get_execution_options().get("begin", "BEGIN")
        if statement is not None:
            connection.exec_driver_sql(statement)

    return engine


DAMAGED = "the file is damaged: restore it from a backup, or save what can be read with `sqlite3 FILE .recover`"
ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space and run the same command again; nothing recorded is lost",
    sqlite3.SQLITE_NOTADB: (
        "this is not an mcdal store, or it is damaged: restore it from a backup, or use another --out"
    ),
    sqlite3.SQLITE_CORRUPT: DAMAGED,
    sqlite3.SQLITE_READONLY: (
        "the file or its folder cannot be written: change its permissions, copy the folder, or use another --out"
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "the file cannot be opened: check that its folder can be read and written, copy the folder, or use another --out"
    ),
    sqlite3.SQLITE_BUSY: f"another process has held the store for {BUSY_SECONDS:.0f} seconds: end it, or use another --out",
    sqlite3.SQLITE_IOERR: (
        "the disk gave an error: check that it is not full, not failing and not a network folder, "
        "then run the same command again"
    ),
    sqlite3.SQLITE_CONSTRAINT: "what is recorded stands, and this does not fit to it; nothing was changed",
}


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Database errors as StoreErrors that name the file and say what to do."""
    try:
        yield
    except DBAPIError as error:
        raise StoreError(f"{path}: {error.orig}: {ADVICE.get(_code(error), DAMAGED)}") from error
    except (ValueError, TypeError) as error:
        # A page may be damaged so that only its JSON or its times cannot be read.
        if not isinstance(error, json.JSONDecodeError | UnicodeDecodeError) and "isoformat" not in str(error):
            raise
        raise StoreError(f"{path}: {error}: {DAMAGED}") from error


def _patiently(ask: Callable[[], str]) -> str:
    """Where several processes make a store at once, SQLite refuses some of them instead of letting them wait."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return ask()
        except DBAPIError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                raise
            time.sleep(0.01)


def _code(error: BaseException | None) -> int:
    """SQLite's number for what went wrong; 0 where it gave none."""
    return int(getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)) & 0xFF


def _asked_twice(connection: Connection, run_id: str, round: int, ids: Ids) -> str:
    """Which sample the refused round asked for again, in words."""
    q = schema.queries.c
    query = select(q.sample_id, q.round).where(q.run_id == run_id, q.round != round)
    before = {row.sample_id: row.round for row in connection.execute(query)}
    seen: set[str] = set()
    for id in ids:
        if id in before:
            return f"round {round} of {run_id} asks for {id}, which round {before[id]} asked for; nothing was changed"
        if id in seen:
            return f"round {round} of {run_id} asks for {id} twice; nothing was changed"
        seen.add(id)
    return f"round {round} of {run_id} cannot be recorded; nothing was changed"


def _number(value: SupportsFloat, name: str) -> float:
    """A plain float: SQLite would keep a NumPy float32 as bytes, and not-a-number as nothing."""
    number = float(value)
    if math.isnan(number):
        raise StoreError(f"{name} is not a number; nothing was changed")
    return number


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _record(row: Any) -> RunRecord:
    values = dict(row._mapping)
    del values["created_at"]
    return RunRecord(**values)


def _now() -> datetime:
    return datetime.now(UTC)
