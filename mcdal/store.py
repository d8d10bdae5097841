"""The record of runs: rows in a database, and the masks that they name. Whatever is not in it did not happen.

Each method is one transaction: after a kill the store holds all of it or nothing.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
from jaxtyping import Int
from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from mcdal import schema
from mcdal.database import Database, plain_rows
from mcdal.dialects import insert_into
from mcdal.errors import StoreError
from mcdal.mask_files import KeptMasks, MaskFolder
from mcdal.pool.base import Quarantined
from mcdal.pool.masks import Masks
from mcdal.values import Ids, Label, Metrics, Picks

AT_ONCE = 500
"""Values in one query: SQLite allows 999 in its older versions."""


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
    searched: Mapping[str, str | int]
    """How its batch was searched for, where it was not among all rows at once; see `Picks.searched`."""


@dataclass(frozen=True)
class MetricRecord:
    """One number of a round."""

    round: int
    name: str
    value: float


class Store:
    """Runs, rounds, queries, labels and metrics in `folder / mcdal.db`, or in the database that the folder names.

    create: makes the store where there is none, and makes sure that it can be written and is whole. Without it a store is
    opened as it stands, also from a folder or disk that cannot be written.
    """

    def __init__(self, folder: Path, create: bool = True):
        self._database = Database(folder, create)
        self.path, self.name = self._database.path, self._database.name
        self._known: dict[str, _Known] = {}
        self._masks = MaskFolder(folder / "masks")

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the store throughout."""
        with self._database.read() as connection:
            yield connection

    def alone(self, run_id: str) -> AbstractContextManager[None]:
        """Holds the run against processes on other machines. StoreError where one of them works on it."""
        return self._database.alone(run_id)

    # Runs

    def add_run(self, record: RunRecord, quarantined: Sequence[Quarantined] = ()) -> None:
        """Begins a run. Raises StoreError where a run of this id exists."""
        with self._database.write() as connection:
            same = select(schema.runs.c.run_id).where(schema.runs.c.run_id == record.run_id)
            if connection.execute(same).first() is not None:
                raise StoreError(f"{self.name}: the run {record.run_id} is there already; nothing was changed")
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
        with self._database.write() as connection:
            result = connection.execute(insert(schema.sessions).values(**row))
            assert result.inserted_primary_key is not None
            return int(result.inserted_primary_key[0])

    def end_session(self, session_id: int, outcome: str) -> None:
        """Notes how the session ended: done, waiting, stopped, or the error in words."""
        where = schema.sessions.c.session_id == session_id
        with self._database.write() as connection:
            connection.execute(update(schema.sessions).where(where).values(ended_at=_now(), outcome=outcome))

    def last_environment(self, run_id: str) -> Mapping[str, str] | None:
        """What the latest session computed with, or None before the first."""
        s = schema.sessions.c
        query = select(s.environment).where(s.run_id == run_id).order_by(s.session_id.desc()).limit(1)
        with self.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def environments(self, run_id: str) -> list[Mapping[str, str]]:
        """What each session computed with, the oldest first."""
        s = schema.sessions.c
        query = select(s.environment).where(s.run_id == run_id).order_by(s.session_id)
        with self.read() as connection:
            return list(connection.execute(query).scalars())

    # Rounds

    def begin_round(
        self,
        run_id: str,
        round: int,
        seed: int,
        picks: Picks,
        scored: bool,
        seconds: Metrics,
        arms: Mapping[str, str] | None = None,
    ) -> None:
        """Records a round and what it asks for, at once. `seconds`: what measuring and selecting took.

        arms: of the picks that are not the strategy's: control, which were drawn at random, and others that are mixed in. Raises
        StoreError where a sample was asked for before.
        """
        beside = arms or {}
        asked = [
            {
                "run_id": run_id,
                "round": round,
                "sample_id": id,
                "score": _number(score, f"the score of {id}") if scored else None,
                "rank": rank,
                "arm": beside.get(id),
            }
            for rank, (id, score) in enumerate(zip(picks.ids, picks.score, strict=True))
        ]
        with self._database.write() as connection:
            r = schema.rounds.c
            before = connection.execute(select(func.max(r.labeled)).where(r.run_id == run_id)).scalar_one() or 0
            row = {"run_id": run_id, "round": round, "seed": seed, "labeled": before + len(asked), "started_at": _now()}
            searched = dict(picks.searched) if picks.searched.get("how", "exact") != "exact" else {}
            connection.execute(insert(schema.rounds).values(**row, seconds=dict(seconds), searched=searched))
            try:
                if asked:
                    with connection.begin_nested():  # after an error PostgreSQL answers nothing but a rollback
                        connection.execute(insert(schema.queries), asked)
            except IntegrityError as error:
                raise StoreError(f"{self.name}: {_asked_twice(connection, run_id, round, picks.ids)}") from error

    def finish_round(
        self, run_id: str, round: int, metrics: Metrics, seconds: Metrics, labeled: int | None = None
    ) -> None:
        """Records what a round reached, and that it is over. labeled: samples with a label, where some were set aside."""
        where = (schema.rounds.c.run_id == run_id) & (schema.rounds.c.round == round)
        with self._database.write() as connection:
            old = connection.execute(select(schema.rounds.c.seconds).where(where)).scalar_one()
            values: dict[str, Any] = {"finished_at": _now(), "seconds": {**old, **seconds}}
            if labeled is not None:
                values["labeled"] = labeled
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
        query = select(r.round, r.seed, r.labeled, r.started_at, r.finished_at, r.seconds, r.searched)
        with self.read() as connection:
            rows = connection.execute(query.where(r.run_id == run_id).order_by(r.round))
            return [RoundRecord(*row[:6], row[6] or {}) for row in rows]

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
        """Appends labels. The same label said again (same sample, class or mask, person and time) is kept once."""
        if not given:
            return
        # A mask's file comes first: one that nothing speaks of after a kill does no harm.
        said = [self._masks.put(v) if isinstance(v := label.value, np.ndarray) else int(v) for label in given]
        with self._database.write() as connection:
            numbers = _numbers(connection, [value for value in said if isinstance(value, str)])
            rows = [
                {
                    "run_id": run_id,
                    "sample_id": label.sample_id,
                    "value": numbers[value] if isinstance(value, str) else value,
                    "by": label.by,
                    "at": _utc(label.at),  # the column keeps no time zone
                    "key": json.dumps([label.sample_id, value, label.by, _utc(label.at).isoformat()]),
                }
                for label, value in zip(given, said, strict=True)
            ]
            connection.execute(insert_into(connection, schema.labels).on_conflict_do_nothing(), rows)

    def masks(self, size: tuple[int, int]) -> Masks:
        """The masks that labels are numbers of, all of one height and width; those of later labels too."""
        return KeptMasks(self._masks, _MaskNames(self), size)

    def mask_pixels(self, number: int) -> Int[np.ndarray, " 256"]:
        """How many pixels of a mask, of whatever size, have each value."""
        size = self._masks.size(_MaskNames(self)[number])
        return self.masks(size).pixels(number)

    def labels(self, run_id: str, through: int | None = None) -> dict[str, int]:
        """The newest label of each sample, of those asked for in rounds 0 to `through` (default: all)."""
        known = self._caught_up(run_id)
        if through is None or (through >= known.last_round and not known.unasked):
            return known.labels.copy()
        # A sample that no round asked for counts as asked for after all of them.
        round_of, never = known.round_of, through + 1
        return {id: value for id, value in known.labels.items() if round_of.get(id, never) <= through}

    def corrected(self, run_id: str) -> bool:
        """Whether some sample was labeled more than once."""
        given = schema.labels.c
        query = select(func.count(), func.count(given.sample_id.distinct())).where(given.run_id == run_id)
        with self.read() as connection:
            rows, samples = connection.execute(query).one()
        return bool(rows > samples)

    def picked_scores(self, run_id: str, round: int) -> dict[str, float]:
        """Of what a round asked for, the scores that it was picked by; empty where the strategy measures none."""
        q = schema.queries.c
        with self.read() as connection:
            query = select(q.sample_id, q.score).where(q.run_id == run_id, q.round == round, q.score.is_not(None))
            return {row.sample_id: row.score for row in connection.execute(query.order_by(q.rank))}

    def unanswered(self, run_id: str, round: int) -> Ids:
        """What a round asked for and nobody has labeled yet, most wanted first; without what was set aside."""
        labeled, away = self._caught_up(run_id).labels, self.set_aside_ids(run_id)
        return tuple(id for id in self.asked(run_id, round) if id not in labeled and id not in away)

    def set_aside(self, run_id: str, reasons: Mapping[str, str]) -> None:
        """Notes samples that nobody can label, and why: they are waited for and asked about no more."""
        rows = [{"run_id": run_id, "sample_id": id, "reason": reason} for id, reason in reasons.items()]
        if rows:
            with self._database.write() as connection:
                connection.execute(insert_into(connection, schema.quarantine).on_conflict_do_nothing(), rows)

    def set_aside_ids(self, run_id: str) -> frozenset[str]:
        """What was set aside, before the run began or since."""
        q = schema.quarantine.c
        with self.read() as connection:
            return frozenset(connection.execute(select(q.sample_id).where(q.run_id == run_id)).scalars())

    def arms(self, run_id: str) -> dict[str, str]:
        """What was asked for beside the strategy's picks, and why: control was drawn at random."""
        q = schema.queries.c
        with self.read() as connection:
            query = select(q.sample_id, q.arm).where(q.run_id == run_id, q.arm.is_not(None))
            return {row.sample_id: row.arm for row in connection.execute(query)}

    def control(self, run_id: str) -> frozenset[str]:
        """What was drawn at random beside the strategy's picks."""
        return frozenset(id for id, arm in self.arms(run_id).items() if arm == "control")

    def extend_run(self, record: RunRecord) -> None:
        """Replaces what is recorded of a run's pool, which has grown: classes, size, fingerprint, notes."""
        grown = {
            name: getattr(record, name) for name in ("classes", "pool_size", "data_fingerprint", "notes", "config")
        }
        with self._database.write() as connection:
            where = schema.runs.c.run_id == record.run_id
            connection.execute(update(schema.runs).where(where).values(**grown))

    def _caught_up(self, run_id: str) -> "_Known":
        known = self._known.setdefault(run_id, _Known())
        with self.read() as connection:
            known.catch_up(connection, run_id)
        return known


@dataclass
class _Known:
    """What was read of a run's labels and queries. Both only grow, so that each reading needs the new rows alone.

    The database gives one writer at a time and refuses to delete labels: a larger label_id was committed later.
    """

    labels: dict[str, int] = field(default_factory=dict)
    round_of: dict[str, int] = field(default_factory=dict)
    unasked: set[str] = field(default_factory=set)  # labeled all the same
    last_label: int = 0
    last_round: int = -1

    def catch_up(self, connection: Connection, run_id: str) -> None:
        given, q = schema.labels.c, schema.queries.c
        asked = select(q.sample_id, q.round).where(q.run_id == run_id, q.round > self.last_round)
        if rows := plain_rows(connection, asked):
            self.round_of.update(rows)
            self.last_round = max(round for _, round in rows)
            self.unasked = {id for id in self.unasked if id not in self.round_of}
        new = select(given.label_id, given.sample_id, given.value).where(
            given.run_id == run_id, given.label_id > self.last_label
        )
        if rows := plain_rows(connection, new.order_by(given.label_id)):
            numbers, ids, values = zip(*rows, strict=True)
            self.labels.update(zip(ids, values, strict=True))
            self.unasked.update(id for id in ids if id not in self.round_of)
            self.last_label = numbers[-1]


class _MaskNames(dict[int, str]):
    """The digest of each mask by its number, looked up in the store when it is first asked for."""

    def __init__(self, store: Store):
        super().__init__()
        self._store = store

    def __missing__(self, number: int) -> str:
        m = schema.masks.c
        with self._store.read() as connection:
            query = select(m.mask_id, m.digest).where(m.mask_id >= number)
            self.update((number, digest) for number, digest in connection.execute(query))
        if number not in self:
            raise StoreError(f"{self._store.name}: a label speaks of mask {number}, which the store does not know")
        return self[number]


def _numbers(connection: Connection, digests: Sequence[str]) -> dict[str, int]:
    """The number of each mask; new ones get the next."""
    m = schema.masks
    if digests:
        new = [{"digest": d} for d in dict.fromkeys(digests)]
        connection.execute(insert_into(connection, m).on_conflict_do_nothing(), new)
    found: dict[str, int] = {}
    for first in range(0, len(digests), AT_ONCE):
        query = select(m.c.digest, m.c.mask_id).where(m.c.digest.in_(digests[first : first + AT_ONCE]))
        found.update((digest, number) for digest, number in connection.execute(query))
    return found


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
