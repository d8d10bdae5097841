"""PostgreSQL: a server that keeps the rows of a folder, for several servers of one campaign at once.

Whoever writes holds one lock of the whole store until it has committed, as with SQLite: what is read in a writing transaction
cannot change under it, and a row with a larger number was committed later.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, false, text, update
from sqlalchemy.exc import DBAPIError, OperationalError

from mcdal import schema
from mcdal.address import ADDRESS, parsed, shown
from mcdal.errors import HeldError, StoreError
from mcdal.migrations import lacks_steps, migrate
from mcdal.postgres_errors import BUSY_SECONDS, LOCK_TIMEOUT, REFUSED_FOR_NOW, in_words, sqlstate

PATIENCE = 10.0
"""Seconds that a server which was there before may be away, as it is while it starts again, before that is an error."""
IDLE_SECONDS = 60
"""A writer that says nothing for so long has lost its machine or its network: others go on."""
CONNECTIONS = (5, 15)
"""Kept, and more for a while."""

# Times are in UTC; what was committed survives a power cut, whatever the server does by default.
SESSION = """
SELECT set_config('TimeZone', 'UTC', false), set_config('lock_timeout', :wait, false),
       CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END
"""
KEY = "hashtextextended('mcdal ' || current_schema() || ' ' || :what, 0)"
BEGIN = text(f"SELECT pg_advisory_xact_lock({KEY}), set_config('idle_in_transaction_session_timeout', :idle, true)")
HOLD = text(f"SELECT pg_advisory_lock({KEY})")
LOOK = text(f"SELECT pg_try_advisory_xact_lock_shared({KEY})")
FOR_EVER = text("SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'")
# A machine that is gone says nothing. By its own defaults the server would ask after it when two hours are over.
KNOCK = text(
    "SELECT set_config('tcp_keepalives_idle', '30', false), set_config('tcp_keepalives_interval', '10', false), "
    "set_config('tcp_keepalives_count', '3', false)"
)
SERVER = text("SELECT current_setting('server_encoding'), current_schema(), pg_is_in_recovery()")


class PostgresServer:
    """The database that `url` names, or the schema of it that comes first in its search path."""

    shared = True

    def __init__(self, url: str, folder: Path, create: bool):
        self._url = parsed(url)
        self.name, self.path = shown(self._url), folder / ADDRESS
        self._engine = _engine(self._url)
        self._turn = threading.Lock()
        self._was_there = False
        try:
            self._open(folder, create)
        except BaseException:
            self.close()
            raise
        self._was_there = True

    def close(self) -> None:
        self._engine.dispose()

    def _open(self, folder: Path, create: bool) -> None:
        with self.read() as connection:
            self._refuse_server(connection, create)
            old = lacks_steps(connection, self.name, "--database")
            new = old and not connection.dialect.has_table(connection, schema.schema_version.name)
        if new:
            self._refuse_nothing(folder, create)
        if old:
            with self.write() as connection:
                migrate(connection, self.name)
        if create:
            with self.write() as connection:  # changes nothing, but whoever may only read is told at once
                connection.execute(update(schema.schema_version).where(false()).values(version=0))

    def _refuse_server(self, connection: Connection, create: bool) -> None:
        encoding, place, only_reads = connection.execute(SERVER).one()
        if encoding != "UTF8":
            raise StoreError(
                f"{self.name} is in {encoding}, which cannot hold all ids: make one with `createdb -E UTF8`"
            )
        if only_reads and create:
            raise StoreError(
                f"{self.name} is a standby, which only lets read: give the URL of the server that it follows"
            )
        if place is None:
            raise StoreError(f"{self.name}: the schema that the URL names does not exist: `CREATE SCHEMA` makes it")

    def _refuse_nothing(self, folder: Path, create: bool) -> None:
        """Rounds begin after their store. A new one would take up their half-done trainings, whatever their recipe was."""
        if next((folder / "runs").glob("*/round_*"), None) is not None:
            raise StoreError(
                f"{self.name} is empty, but there are runs in {folder}: restore it from a backup, or give another --out"
            )
        if not create:
            raise StoreError(f"no store in {self.name}: it is empty; `mcdal run ... --out {folder}` makes one")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        how = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with in_words(self.name, self._url.password), self._connected() as connection:
            yield connection.execution_options(**how)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        if not self._turn.acquire(timeout=BUSY_SECONDS):  # one of this process waits at the server, not all its threads
            raise StoreError(f"{self.name}: another thread has held the store for {BUSY_SECONDS:.0f} seconds")
        try:
            with in_words(self.name, self._url.password), self._connected() as connection:
                # Each statement sees what was committed before it, so that the first one may wait for the others' commits.
                connection = connection.execution_options(isolation_level="READ COMMITTED")
                with connection.begin():
                    connection.execute(BEGIN, {"what": "write", "idle": f"{IDLE_SECONDS}s"})
                    yield connection
        finally:
            self._turn.release()

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """The lock is that of a connection, and dies with its process."""
        with in_words(self.name, self._url.password):
            connection = self._connected().execution_options(isolation_level="AUTOCOMMIT")
        with connection:
            connection.detach()  # it is closed afterwards, and not lent to others with what is set here
            with in_words(self.name, self._url.password):
                try:
                    # Those who only ask whether it is held take it for an instant.
                    connection.exec_driver_sql("SET lock_timeout = '1s'")
                    connection.execute(FOR_EVER)
                    connection.execute(KNOCK)
                    connection.execute(HOLD, {"what": what})
                except DBAPIError as error:
                    if sqlstate(error) != LOCK_TIMEOUT:
                        raise
                    raise HeldError(
                        f"another process is working on {what}, maybe on another machine: wait for it, or end it first"
                    ) from None
            yield

    def is_held(self, what: str) -> bool:
        with self.read() as connection:
            return not connection.execute(LOOK, {"what": what}).scalar_one()

    def _connected(self) -> Connection:
        """A connection that works. Nothing was asked of it yet, so that it may be tried again."""
        end = time.monotonic() + (PATIENCE if self._was_there else 0.0)
        while True:
            try:
                return self._engine.connect()
            except OperationalError as error:
                if sqlstate(error) not in REFUSED_FOR_NOW or time.monotonic() >= end:
                    raise
            time.sleep(0.2)


def _engine(url: URL) -> Engine:
    kept, more = CONNECTIONS
    defaults = {"client_encoding": "utf8"} | ({} if "connect_timeout" in url.query else {"connect_timeout": "10"})
    try:
        engine = create_engine(
            url, connect_args=defaults, pool_pre_ping=True, pool_size=kept, max_overflow=more, hide_parameters=True
        )
    except ImportError as error:  # also of the libraries that it needs itself
        raise StoreError(f"PostgreSQL needs psycopg ({error}): pip install 'mcdal[postgres]'") from error

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.execute(SESSION.replace(":wait", f"'{BUSY_SECONDS:.0f}s'"))
        connection.commit()

    return engine
