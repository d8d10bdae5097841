"""SQLite: the file in a folder that keeps its rows by default, opened safely, its errors in words."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, false, update
from sqlalchemy.exc import DBAPIError

from mcdal import schema
from mcdal.errors import StoreError
from mcdal.migrations import lacks_steps, migrate

FILE_NAME = "mcdal.db"


class SqliteFile:
    """The file `folder / mcdal.db`. Its servers are on one machine, and one at a time."""

    shared = False

    def __init__(self, folder: Path, create: bool):
        self.path = folder / FILE_NAME
        self.name = str(self.path)
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
        # Before SQLite takes it up: it is there while others have the store open, and after one of them was killed.
        log_is_left = Path(f"{self.path}-wal").exists()
        with self.read() as connection:
            lacks_steps(connection, self.name)  # refuses what is not ours before anything is written
        self._use_wal()
        if log_is_left or self.path.stat().st_size <= CHECKED_BYTES:
            self._check()
        self._migrate()
        with self.write() as connection:
            # Changes nothing, but SQLite lets a transaction of a file that is read-only begin, and refuses this.
            connection.execute(update(schema.schema_version).where(false()).values(version=0))

    def _check(self) -> None:
        with self.read() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        if found != "ok":
            raise StoreError(f"{self.path}: {' '.join(found.split())}: {DAMAGED}")

    def _open_as_it_stands(self) -> None:
        try:
            with self.read() as connection:
                old = lacks_steps(connection, self.name)
        except StoreError as error:
            if not self._cannot_be_written(error) or Path(f"{self.path}-wal").exists():
                raise
            # Nobody can be writing, and nothing waits in a log: then SQLite can do without the files it keeps beside.
            self._engine.dispose()
            self._engine = _engine(self.path, mode="ro", immutable="1")
            with self.read() as connection:
                old = lacks_steps(connection, self.name)
        if old:
            self._use_wal()
            self._migrate()

    def _cannot_be_written(self, error: StoreError) -> bool:
        return _code(error.__cause__) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)

    def _migrate(self) -> None:
        with self.write() as connection:
            migrate(connection, self.name)

    def _use_wal(self) -> None:
        """Once for the file, which remembers it. SQLite says what it did instead of failing."""
        with _in_words(self.path), self._engine.connect().execution_options(begin=None) as connection:
            mode = _patiently(lambda: connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar_one())
        if mode != "wal":
            raise StoreError(
                f"{self.path}: this disk cannot hold a store safely (SQLite's write-ahead log is not possible): "
                "give an --out on a local disk"
            )

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with _in_words(self.path), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with (
            _in_words(self.path),
            self._engine.connect().execution_options(begin="BEGIN IMMEDIATE") as connection,
            connection.begin(),
        ):
            yield connection

    def alone(self, _what: str) -> AbstractContextManager[None]:
        """The lock in the folder is enough: whoever has the file has that too."""
        return nullcontext()

    def is_held(self, _what: str) -> bool:
        return False


# Of each connection: what was committed survives a power cut; what REPLACE deletes is a deletion to the triggers too. Up to 64 MB
# of pages are held: the ids of a round lie all over a large index, and with SQLite's 2 MB its pages are written and read again.
PRAGMAS = ("synchronous=FULL", "foreign_keys=ON", "recursive_triggers=ON", "cache_size=-65536")

BUSY_SECONDS = 30.0

CHECKED_BYTES = 256 << 20
"""A store up to this size is read through at every opening for writing, which takes a third of a second; a larger one only
where a process may have died in it, so that opening stays quick. Damaged pages of it are told when they are first used."""


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
    except sqlite3.Error as error:  # of rows that were read without SQLAlchemy
        raise StoreError(f"{path}: {error}: {ADVICE.get(_code(error), DAMAGED)}") from error
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
    return int(getattr(getattr(error, "orig", error), "sqlite_errorcode", 0)) & 0xFF
