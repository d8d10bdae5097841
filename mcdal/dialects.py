"""What SQLite and PostgreSQL say differently, asked of a connection."""

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_into(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that may say what is done with rows that are there already; both databases spell that the same."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def append_only(connection: Connection, table: str, words: str) -> None:
    """The database itself refuses to change or delete a row of this table, in these words."""
    of = _in_postgresql if connection.dialect.name == "postgresql" else _in_sqlite
    for statement in of(table, words):
        connection.exec_driver_sql(statement)


def _in_sqlite(table: str, words: str) -> list[str]:
    return [
        f"CREATE TRIGGER IF NOT EXISTS {table}_refuse_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{words}'); END"
        for verb in ("UPDATE", "DELETE")
    ]


def _in_postgresql(table: str, words: str) -> list[str]:
    body = f"BEGIN RAISE EXCEPTION '{words}' USING ERRCODE = 'restrict_violation'; END"
    return [
        f"CREATE OR REPLACE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
        f"DROP TRIGGER IF EXISTS {table}_refuse ON {table}",
        f"CREATE TRIGGER {table}_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE PROCEDURE {table}_refuse()",
    ]
