"""Stores of older versions are upgraded whole or not at all."""

import pytest
from sqlalchemy import inspect, text

from mcdal import migrations
from mcdal.errors import StoreError
from mcdal.store import Store
from tests.test_store import filled


def add_teams(connection):
    connection.execute(text("CREATE TABLE teams (name TEXT)"))
    connection.execute(text("INSERT INTO teams SELECT run_id FROM runs"))


def fail(connection):
    connection.execute(text("DROP TABLE metrics"))
    raise ZeroDivisionError


def fail_in_sql(connection):
    connection.execute(text("INSERT INTO nowhere VALUES (1)"))


def look(folder):
    """Version, tables and teams of a store."""
    store = Store(folder, create=False)
    with store.read() as connection:
        tables = set(inspect(connection).get_table_names())
        teams = [name for (name,) in connection.execute(text("SELECT name FROM teams"))] if "teams" in tables else []
        found = migrations.version(connection), tables, teams
    store.close()
    return found


def test_a_new_store_is_at_the_newest_version(tmp_path):
    Store(tmp_path).close()
    version, tables, _ = look(tmp_path)
    assert version == len(migrations.MIGRATIONS)
    assert {"runs", "rounds", "queries", "labels", "metrics"} <= tables


@pytest.mark.parametrize("create", [True, False])
def test_an_older_store_takes_the_missing_steps(tmp_path, monkeypatch, create):
    filled(tmp_path)
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, add_teams))
    Store(tmp_path, create).close()
    Store(tmp_path, create).close()  # and takes them once
    version, _, teams = look(tmp_path)
    assert (version, teams) == (len(migrations.MIGRATIONS), ["r"])


def test_a_store_of_the_first_version_has_the_indices_of_today(tmp_path):
    filled(tmp_path)
    store = Store(tmp_path)
    with store._database.write() as connection:
        for name in ("sessions_by_run", "labels_by_run"):
            connection.execute(text(f"DROP INDEX {name}"))
        connection.execute(text("DROP TABLE masks"))
        connection.execute(text("CREATE INDEX labels_by_sample ON labels (run_id, sample_id)"))
        connection.execute(text("UPDATE schema_version SET version = 1"))
    store.close()
    store = Store(tmp_path)
    with store.read() as connection:
        for table in ("sessions", "labels"):
            indexes = [i["name"] for i in inspect(connection).get_indexes(table) if not i["unique"]]
            assert indexes == [f"{table}_by_run"]
        assert inspect(connection).has_table("masks")
        assert migrations.version(connection) == len(migrations.MIGRATIONS)
    assert len(store.labels("r")) == 400
    store.close()


def test_a_store_of_before_gets_the_table_of_shards_that_people_were_asked_about(tmp_path):
    filled(tmp_path)
    store = Store(tmp_path)
    with store._database.write() as connection:
        connection.execute(text("DROP TABLE asked_shards"))
        connection.execute(text("UPDATE schema_version SET version = 7"))
    store.close()
    version, tables, _ = look(tmp_path)
    assert version == len(migrations.MIGRATIONS) and "asked_shards" in tables


@pytest.mark.parametrize(("step", "raised"), [(fail, ZeroDivisionError), (fail_in_sql, StoreError)])
def test_a_step_that_fails_leaves_the_store_as_it_was(tmp_path, monkeypatch, step, raised):
    path = filled(tmp_path)
    before, looked = path.exists() and path.read_bytes(), look(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, add_teams, step))
        with pytest.raises(raised):
            Store(tmp_path)
    assert (path.exists() and path.read_bytes()) == before
    assert look(tmp_path) == looked


def test_a_first_step_that_fails_leaves_an_empty_store(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, fail))
        with pytest.raises(ZeroDivisionError):
            Store(tmp_path)
    Store(tmp_path).close()
    assert look(tmp_path)[0] == len(migrations.MIGRATIONS)
