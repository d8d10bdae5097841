"""Numbered steps from an empty database to the schema of today. A step that has been released is never edited."""

from collections.abc import Callable

from sqlalchemy import Connection, delete, insert, inspect, select, text

from mcdal import schema
from mcdal.errors import StoreError


def create_tables(connection: Connection) -> None:
    """1: the first schema, with labels that the database itself refuses to change or delete."""
    schema.metadata.create_all(connection)
    if connection.dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            connection.execute(
                text(
                    f"CREATE TRIGGER labels_refuse_{verb.lower()} BEFORE {verb} ON labels "
                    "BEGIN SELECT RAISE(ABORT, 'labels are append-only: add a row to correct one'); END"
                )
            )


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (create_tables,)


def version(connection: Connection) -> int:
    """The number of the last step taken; 0 for an empty database."""
    if not inspect(connection).has_table(schema.schema_version.name):
        return 0
    return int(connection.execute(select(schema.schema_version.c.version)).scalar_one_or_none() or 0)


def migrate(connection: Connection, name: str) -> None:
    """Takes the steps that are missing, all in the caller's transaction. A store from a newer version is left alone."""
    present = version(connection)
    if present > len(MIGRATIONS):
        raise StoreError(
            f"{name} was written by a newer mcdal (schema {present}; this version knows {len(MIGRATIONS)}): "
            "upgrade mcdal, or use another --out. Nothing was changed"
        )
    if present == len(MIGRATIONS):
        return
    for step in MIGRATIONS[present:]:
        step(connection)
    connection.execute(delete(schema.schema_version))
    connection.execute(insert(schema.schema_version).values(version=len(MIGRATIONS)))
