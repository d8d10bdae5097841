"""The rows of a store: one transaction at a time, in the folder's own file or on a PostgreSQL server."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from sqlalchemy import Connection, Select

from mcdal.address import Address, address_of, chosen, write_address
from mcdal.sqlite import SqliteFile


@runtime_checkable
class Rows(Protocol):
    """What keeps the rows. name: for messages. path: of the file that holds or names it. shared: servers may share it."""

    name: str
    path: Path
    shared: bool

    def close(self) -> None: ...

    def read(self) -> AbstractContextManager[Connection]: ...

    def write(self) -> AbstractContextManager[Connection]: ...

    def alone(self, what: str) -> AbstractContextManager[None]: ...

    def is_held(self, what: str) -> bool: ...


class Database:
    """The rows of the store in `folder`, at the schema of today.

    create: makes the store where there is none, and makes sure that it can be written and is whole. Without it a store is
    opened as it stands, also from a folder or disk that cannot be written. url: of a PostgreSQL database that keeps the rows
    of this folder, or shall: the folder names it from now on, unless `remember` is False.
    """

    def __init__(self, folder: Path, create: bool = True, url: str | None = None, remember: bool = True):
        self._folder = folder
        self._address = chosen(folder, create, url)
        self._rows = _opened(self._address, folder, create)
        self.path, self.name = self._rows.path, self._rows.name
        if remember and self._address != address_of(folder):
            self.remember()

    @property
    def shared(self) -> bool:
        """Whether several servers may serve a campaign of it."""
        return self._rows.shared

    def remember(self, images: Path | None = None) -> None:
        """The folder names the database from now on; nothing to do where it keeps its rows itself. images: see `Address`."""
        if self._address is not None:
            write_address(self._folder, Address(self._address.url, images or self._address.images))

    def close(self) -> None:
        self._rows.close()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the store throughout."""
        with self._rows.read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, the only one that writes: committed whole, or not at all."""
        with self._rows.write() as connection:
            yield connection

    def alone(self, what: str) -> AbstractContextManager[None]:
        """Holds something against processes on other machines. StoreError where one of them has it."""
        return self._rows.alone(what)

    def is_held(self, what: str) -> bool:
        """Whether a process, on whatever machine, holds this by `alone`."""
        return self._rows.is_held(what)


def _opened(address: Address | None, folder: Path, create: bool) -> Rows:
    if address is None:
        return SqliteFile(folder, create)
    from mcdal.postgres import PostgresServer

    return PostgresServer(address.url, folder, create)


def plain_rows(connection: Connection, query: Select[Any]) -> list[tuple[Any, ...]]:
    """All rows as the driver gives them: for many, that takes a third of the time. For text and numbers, which need no care."""
    result = connection.execute(query)
    assert result.cursor is not None
    try:
        return list(result.cursor.fetchall())
    finally:
        result.close()
