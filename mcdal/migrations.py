"""Numbered steps from an empty database to the schema of today. A step that has been released is never edited."""

from collections.abc import Callable

from sqlalchemy import Connection, delete, func, insert, inspect, select, text

from mcdal import campaign_tables, schema
from mcdal.dialects import append_only
from mcdal.errors import StoreError


def create_tables(connection: Connection) -> None:
    """1: the first schema, with labels that the database itself refuses to change or delete."""
    schema.metadata.create_all(connection)
    append_only(connection, "labels", "labels are append-only: add a row to correct one")


def index_by_run(connection: Connection) -> None:
    """2: finds the sessions of a run, and its labels since one that is known, without reading those of all runs."""
    for index in (schema.sessions_by_run, schema.labels_by_run):
        index.create(connection, checkfirst=True)  # an empty store got them in step 1


def forget_index_by_sample(connection: Connection) -> None:
    """3: labels are no longer looked up by sample, and a third of what recording them wrote was this index."""
    connection.execute(text("DROP INDEX IF EXISTS labels_by_sample"))  # an empty store has never had it


def add_masks(connection: Connection) -> None:
    """4: labels may be masks."""
    schema.masks.create(connection, checkfirst=True)


def add_campaigns(connection: Connection) -> None:
    """5: people answer; what they said is never changed. A pick may be drawn at random beside the strategy's."""
    for table in campaign_tables.TABLES:
        table.create(connection, checkfirst=True)
    if "arm" not in {column["name"] for column in inspect(connection).get_columns("queries")}:
        connection.execute(text("ALTER TABLE queries ADD COLUMN arm TEXT"))
    append_only(connection, "answers", "answers are append-only: add a row to take one back")


def add_trials(connection: Connection) -> None:
    """6: what random labeling would have given can be told beside a campaign; near-duplicates may take over a label."""
    for table in (campaign_tables.trials, campaign_tables.copies):
        table.create(connection, checkfirst=True)


def add_searched(connection: Connection) -> None:
    """7: a batch from a large pool may be chosen in parts, and the store says so."""
    if "searched" not in {column["name"] for column in inspect(connection).get_columns("rounds")}:
        connection.execute(text("ALTER TABLE rounds ADD COLUMN searched JSON"))


def add_asked_shards(connection: Connection) -> None:
    """8: campaigns know which shards people were asked about, as they were then."""
    campaign_tables.asked_shards.create(connection, checkfirst=True)


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    create_tables,
    index_by_run,
    forget_index_by_sample,
    add_masks,
    add_campaigns,
    add_trials,
    add_searched,
    add_asked_shards,
)


def version(connection: Connection) -> int:
    """The number of the last step taken; 0 for an empty database."""
    if not inspect(connection).has_table(schema.schema_version.name):
        return 0
    return int(connection.execute(select(func.max(schema.schema_version.c.version))).scalar_one() or 0)


def lacks_steps(connection: Connection, name: str, other: str = "--out") -> bool:
    """Whether steps are missing. Raises StoreError for a store from a newer version, and for anything but a store.

    other: the option that gives another place.
    """
    present = version(connection)
    if present > len(MIGRATIONS):
        raise StoreError(
            f"{name} was written by a newer mcdal (schema {present}; this version knows {len(MIGRATIONS)}): "
            f"upgrade mcdal, or use another {other}. Nothing was changed"
        )
    if present == 0 and inspect(connection).get_table_names():
        raise StoreError(
            f"{name} is a database, but not an mcdal store: use another {other}, or restore the store from a backup. "
            "Nothing was changed"
        )
    return present < len(MIGRATIONS)


def migrate(connection: Connection, name: str) -> None:
    """Takes the steps that are missing, all in the caller's transaction."""
    if not lacks_steps(connection, name):
        return
    for step in MIGRATIONS[version(connection) :]:
        step(connection)
    connection.execute(delete(schema.schema_version))
    connection.execute(insert(schema.schema_version).values(version=len(MIGRATIONS)))
