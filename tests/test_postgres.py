"""PostgreSQL as it is used: one writer at a time, times and ids as in SQLite, errors in words, connections that are lost."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert, select, text, update

import mcdal.postgres
from mcdal import migrations, schema
from mcdal.database import Database
from mcdal.errors import StoreError
from mcdal.loop import run
from mcdal.plan import Plan
from mcdal.status import status
from mcdal.store import Store
from mcdal.testing import fake_config
from mcdal.values import Label
from tests.test_store import filled, picks, record, store

__all__ = ["store"]  # a fixture
pytestmark = pytest.mark.postgres
ME = text("SELECT pg_backend_pid()")


def end_connection(schemas, pid):
    """As a server that is restarted does it, or somebody who has no patience."""
    schemas.execute(f"SELECT pg_terminate_backend({pid})")
    end = time.monotonic() + 10
    while schemas.execute(f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}").fetchone():
        assert time.monotonic() < end
        time.sleep(0.01)


def changed(url, **query):
    return str(mcdal.postgres.parsed(url).update_query_dict(query).set(drivername="postgresql"))


# What the database itself makes sure of


@pytest.mark.parametrize("statement", ["UPDATE labels SET value = 0", "DELETE FROM labels", "TRUNCATE labels"])
def test_labels_are_append_only(store, statement):
    store.add_labels("r", [Label("a", 1, "ann")])
    with (
        pytest.raises(StoreError, match=r"append-only.*what is recorded stands"),
        store._database.write() as connection,
    ):
        connection.exec_driver_sql(statement)
    assert store.labels("r") == {"a": 1}


def test_ids_have_the_order_of_their_code_points(store):
    ids = ["b", "A", "a", "B", "_", "Ä", "ä", "z", "a b", "a-b", "10", "9", "図"]
    store.begin_round("r", 0, 1, picks(*ids), False, {})
    with store.read() as connection:
        found = (
            connection.execute(select(schema.queries.c.sample_id).order_by(schema.queries.c.sample_id)).scalars().all()
        )
    assert found == sorted(ids)


def test_times_are_those_of_utc_wherever_the_server_is(tmp_path, schemas):
    url = changed(
        schemas.of(tmp_path), options=f"-csearch_path={schemas.of(tmp_path).rpartition('%3D')[2]} -ctimezone=Asia/Tokyo"
    )
    before = time.time()
    with contextlib.closing(Database(tmp_path, url=url)) as database:
        store = Store(tmp_path, create=False)
        store.add_run(record())
        with database.read() as connection:
            (at,) = connection.execute(select(schema.runs.c.created_at)).scalars()
        store.close()
    assert at.tzinfo is None and abs(time.mktime(at.timetuple()) - time.mktime(time.gmtime(before))) < 60


# One writer at a time


def test_writers_wait_for_each_other_and_see_what_the_other_did(tmp_path, store):
    """Two servers that read, think and write would otherwise both write what only one of them should."""
    stores = [store, Store(tmp_path)]
    count = select(schema.runs.c.pool_size)

    def add(one):
        for _ in range(25):
            with one._database.write() as connection:
                seen = connection.execute(count).scalar_one()
                time.sleep(0.001)
                connection.execute(update(schema.runs).values(pool_size=seen + 1))

    threads = [threading.Thread(target=add, args=(stores[i % 2],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stores[1].close()
    assert store.run("r").pool_size == 200


def test_a_writer_that_waits_too_long_is_told(tmp_path, store, monkeypatch):
    monkeypatch.setattr(mcdal.postgres, "BUSY_SECONDS", 0.6)
    with contextlib.closing(Store(tmp_path, create=False)) as other, store._database.write():
        monkeypatch.setattr(other._database._rows, "_turn", threading.Lock())
        assert other.run("r") == record()  # readers do not wait
        with other._database._rows._connected() as connection:
            connection.exec_driver_sql("SET lock_timeout = '100ms'")
            connection.commit()
        with pytest.raises(StoreError, match="another process has held the store"):
            other.begin_session("r", {})


def test_a_run_is_held_across_machines(tmp_path, store, schemas):
    with contextlib.closing(Store(tmp_path)) as other:
        assert not other._database.is_held("r")
        with store.alone("r"):
            assert other._database.is_held("r") and not other._database.is_held("another")
            with (
                pytest.raises(StoreError, match="another process is working on r, maybe on another machine"),
                other.alone("r"),
            ):
                pass
        assert not other._database.is_held("r")
        with other.alone("r"):
            pass


def test_a_run_that_is_played_elsewhere_is_not_played_here(tmp_path, schemas):
    """The folder's own lock is not seen by another machine."""
    plan = Plan(fake_config())
    with contextlib.closing(Store(tmp_path / "one")) as one, one.alone(plan.run_id):
        (tmp_path / "two").mkdir()
        (tmp_path / "two" / "database.json").write_text((tmp_path / "one" / "database.json").read_text())
        with pytest.raises(StoreError, match="maybe on another machine"):
            run(plan, tmp_path / "two", device="cpu")
    run(plan, tmp_path / "two", device="cpu")
    assert status(tmp_path / "one")[0].state == "done"


# Connections that are lost


def test_a_connection_that_was_lost_between_two_transactions_is_not_noticed(store, schemas):
    with store.read() as connection:
        pid = connection.execute(ME).scalar_one()
    end_connection(schemas, pid)
    store.add_labels("r", [Label("a", 1, "ann")])
    assert store.labels("r") == {"a": 1}


def test_a_connection_that_is_lost_in_a_transaction_takes_it_whole(store, schemas):
    with (
        pytest.raises(StoreError, match="the connection was lost: nothing of this was recorded, or all of it"),
        store._database.write() as c,
    ):
        c.execute(insert(schema.masks).values(digest="x"))
        end_connection(schemas, c.execute(ME).scalar_one())
        c.execute(insert(schema.masks).values(digest="y"))
    with store.read() as connection:
        assert connection.execute(select(schema.masks)).all() == []
    store.add_labels("r", [Label("a", 1, "ann")])  # and nobody waits for its lock


def test_a_server_that_is_away_for_a_moment_is_waited_for(store, monkeypatch):
    real, tries = store._database._rows._engine.connect, []

    def connect():
        tries.append(1)
        if len(tries) < 3:
            store._database._rows._engine.raw_connection().invalidate()
            import psycopg

            raise mcdal.postgres.OperationalError("", {}, psycopg.OperationalError("connection failed: no such host"))
        return real()

    monkeypatch.setattr(store._database._rows._engine, "connect", connect)
    assert store.run("r") == record() and len(tries) == 3
    monkeypatch.setattr(mcdal.postgres, "PATIENCE", 0.0)
    tries.clear()
    with pytest.raises(StoreError, match="see that the server runs"):
        store.run("r")


# What cannot be


def test_what_is_no_database_of_a_store(tmp_path, schemas):
    url = schemas.of(tmp_path)
    name = url.rpartition("%3D")[2]
    schemas.execute(f"CREATE TABLE {name}.songs (name text)")
    with pytest.raises(StoreError, match="a database, but not an mcdal store: use another --database"):
        Store(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_newer_schema_is_refused(tmp_path, schemas):
    filled(tmp_path)
    schemas.execute(f"UPDATE {schemas.of(tmp_path).rpartition('%3D')[2]}.schema_version SET version = 99")
    for create in (True, False):
        with pytest.raises(StoreError, match=r"newer mcdal .schema 99; .*upgrade mcdal"):
            Store(tmp_path, create)


def test_rounds_without_their_rows_are_not_taken_up(tmp_path, schemas):
    run(Plan(fake_config()), tmp_path, device="cpu")
    name = schemas.of(tmp_path).rpartition("%3D")[2]
    schemas.execute(f"DROP SCHEMA {name} CASCADE")
    with pytest.raises(StoreError, match="the schema that the URL names does not exist"):
        Store(tmp_path)
    schemas.execute(f"CREATE SCHEMA {name}")
    for create in (True, False):
        with pytest.raises(StoreError, match=r"is empty, but there are runs in .*: restore it from a backup"):
            Store(tmp_path, create)


def test_an_empty_database_is_no_store_for_whoever_reads(tmp_path, schemas):
    with pytest.raises(StoreError, match=r"no store in postgresql://.*: it is empty"):
        Database(tmp_path, create=False, url=schemas.of(tmp_path))


def test_a_database_that_is_not_there(tmp_path, schemas):
    url = str(mcdal.postgres.parsed(schemas.url).set(database="nowhere", drivername="postgresql"))
    with pytest.raises(StoreError, match='database "nowhere" does not exist: make it with `createdb`'):
        Database(tmp_path, url=url)


def test_who_the_server_does_not_know(tmp_path, schemas):
    url = str(mcdal.postgres.parsed(schemas.url).set(username="nobody-knows", drivername="postgresql"))
    with pytest.raises(StoreError, match="check the user, and its password"):
        Database(tmp_path, url=url)


def test_a_user_who_may_only_read(tmp_path, schemas):
    filled(tmp_path)
    name = schemas.of(tmp_path).rpartition("%3D")[2]
    schemas.execute(f"CREATE ROLE {name} LOGIN; GRANT USAGE ON SCHEMA {name} TO {name}")
    schemas.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO {name}")
    url = str(mcdal.postgres.parsed(schemas.of(tmp_path)).set(username=name, drivername="postgresql"))
    try:
        with contextlib.closing(Database(tmp_path / "theirs", create=False, url=url)):
            assert status(tmp_path / "theirs")[0].labels == 400
        with pytest.raises(StoreError, match=r"permission denied.*: the user may not do this: let it own the database"):
            Database(tmp_path / "theirs", url=url)
    finally:
        schemas.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_database_that_cannot_hold_all_ids(tmp_path, schemas):
    with contextlib.suppress(Exception):
        schemas.execute("CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    url = str(mcdal.postgres.parsed(schemas.url).set(database="plain", drivername="postgresql"))
    with pytest.raises(StoreError, match="is in SQL_ASCII, which cannot hold all ids"):
        Database(tmp_path, url=url)


def test_text_that_postgresql_cannot_keep_is_told(store):
    with pytest.raises(StoreError, match=r"NUL.*cannot be kept; nothing was changed"):
        store.add_labels("r", [Label("a\0b", 1, "ann")])
    assert store.labels("r") == {}


def test_steps_are_taken_once_by_many_at_once(tmp_path, schemas):
    url = schemas.of(tmp_path)
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda i: Database(tmp_path / str(i), url=url), range(6)))
    with made[0].read() as connection:
        assert migrations.version(connection) == len(migrations.MIGRATIONS)
    for database in made:
        database.close()
