"""Encoded images that were read at random, kept on this disk: labeled ones come again in every epoch."""

import os
import random
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from mcdal.events import Listener, nobody

LOT = random.Random()  # its own: what is kept here changes no result
WAIT = 30.0
"""Seconds that a process waits for another one."""
AT_ONCE = 500
"""Ids that one question asks for; SQLite takes a limited number."""


class Kept:
    """At most `limit` bytes of images by id; where there are more, others go at random. One SQLite file, for many processes.

    Nothing is lost with it: it is not synced, and one that is broken is begun anew. Where it cannot be used (a full or read-only
    disk, another process that holds it) a notice says so, and nothing is kept.
    """

    def __init__(self, path: Path, limit: int, listen: Listener = nobody):
        self._path, self._limit, self._listen = path, limit, listen
        self._given_up = False
        self._bytes = 0
        self._local = threading.local()
        self._lock = threading.Lock()
        with self._trying():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._bytes = self._measured()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # it is no database, or a damaged one
                self._local.connection.close()
                self._local.process = None
                for ending in ("", "-wal", "-shm"):
                    path.with_name(path.name + ending).unlink(missing_ok=True)
                self._bytes = self._measured()

    def __reduce__(self) -> tuple[type["Kept"], tuple[Path, int]]:
        return Kept, (self._path, self._limit)

    def get(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Those that are here."""
        found: dict[str, bytes] = {}
        with self._trying():
            for start in range(0, 0 if self._given_up else len(ids), AT_ONCE):
                some = ids[start : start + AT_ONCE]
                marks = ",".join("?" * len(some))
                found |= dict(self._connection().execute(f"SELECT id, bytes FROM kept WHERE id IN ({marks})", some))
        return found

    def put(self, images: Mapping[str, bytes]) -> None:
        """Keeps them; those that would be more than a tenth of the room are passed over."""
        rows = [(id, image) for id, image in images.items() if len(image) * 10 <= self._limit]
        if not rows or self._given_up:
            return
        with self._trying(), self._lock, self._connection() as connection:
            before = connection.total_changes
            lots = [(id, LOT.getrandbits(62), image) for id, image in rows]
            connection.executemany("INSERT OR IGNORE INTO kept (id, lot, bytes) VALUES (?, ?, ?)", lots)
            if connection.total_changes > before:
                self._bytes += sum(len(image) for _, image in rows)
            while self._bytes > self._limit and self._drop(connection):
                pass

    @contextmanager
    def _trying(self) -> Iterator[None]:
        """Whatever the disk or the database refuses is the end of keeping, not of reading."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if not self._given_up:
                text = f"{self._path} cannot be used ({error}): images read at random are not kept, but read again each time"
                self._listen("notice", text=text)
            self._given_up = True

    def _drop(self, connection: sqlite3.Connection) -> bool:
        """Some by lot, not the oldest: a set that is larger than the room still finds a share of itself here in each epoch."""
        query = "SELECT id, length(bytes) FROM kept WHERE lot >= ? ORDER BY lot LIMIT 16"
        chosen = (
            connection.execute(query, (LOT.getrandbits(62),)).fetchall() or connection.execute(query, (0,)).fetchall()
        )
        connection.executemany("DELETE FROM kept WHERE id = ?", [(id,) for id, _ in chosen])
        self._bytes -= sum(size for _, size in chosen)
        return bool(chosen)

    def _measured(self) -> int:
        connection = self._connection()
        connection.execute(
            "CREATE TABLE IF NOT EXISTS kept (id TEXT PRIMARY KEY, lot INTEGER NOT NULL, bytes BLOB NOT NULL)"
        )
        connection.execute("CREATE INDEX IF NOT EXISTS by_lot ON kept (lot)")
        return int(connection.execute("SELECT coalesce(sum(length(bytes)), 0) FROM kept").fetchone()[0])

    def _connection(self) -> sqlite3.Connection:
        """One for each thread, and none that a forked process has from its parent."""
        if getattr(self._local, "process", None) != os.getpid():
            connection = sqlite3.connect(self._path, timeout=WAIT, check_same_thread=False)
            self._local.connection = connection
            with closing(connection.execute("PRAGMA journal_mode=WAL")):
                connection.execute("PRAGMA synchronous=OFF")
            self._local.process = os.getpid()
        made: sqlite3.Connection = self._local.connection
        return made
