"""SQLite: the file that keeps a store, as safe as it can be, whatever happens to it or to the disk."""

import contextlib
import errno
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

import mcdal.sqlite
from mcdal.errors import StoreError
from mcdal.loop import run
from mcdal.plan import Plan
from mcdal.status import status
from mcdal.store import Store
from mcdal.testing import fake_config
from mcdal.values import Label
from tests.runs import content
from tests.test_store import filled, record, store

__all__ = ["store"]  # a fixture
pytestmark = pytest.mark.sqlite


def pragma(connection, name):
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


def test_sqlite_is_as_safe_as_it_can_be(store):
    for transaction in (store.read, store._database.write):
        with transaction() as connection:
            assert pragma(connection, "journal_mode") == "wal"
            assert pragma(connection, "synchronous") == 2  # FULL
            assert pragma(connection, "foreign_keys") == 1
            assert pragma(connection, "cache_size") == -65_536
            assert pragma(connection, "busy_timeout") == 30_000


def test_a_write_takes_the_lock_when_it_begins(store, monkeypatch):
    monkeypatch.setattr(mcdal.sqlite, "BUSY_SECONDS", 0.05)
    with contextlib.closing(Store(store.path.parent, create=False)) as other, store._database.write():
        assert other.run("r") == record()  # readers do not wait
        with pytest.raises(StoreError, match=r"mcdal\.db: database is locked: another process has held the store"):
            other.begin_session("r", {})


def test_a_store_that_others_make_at_the_same_time_is_waited_for(tmp_path):
    """The change to the write-ahead log is the one statement for which SQLite does not wait by itself."""
    with contextlib.closing(sqlite3.connect(filled(tmp_path), check_same_thread=False)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN IMMEDIATE")
        end = threading.Timer(0.3, other.rollback)
        end.start()
        store = Store(tmp_path)
        end.join()
        with store.read() as connection:
            assert pragma(connection, "journal_mode") == "wal"
        store.close()


def test_a_disk_without_write_ahead_log_is_refused(tmp_path, monkeypatch):
    real = mcdal.sqlite._engine
    monkeypatch.setattr(mcdal.sqlite, "_engine", lambda path, **how: real(path, **how, vfs="unix-dotfile"))
    with pytest.raises(StoreError, match="give an --out on a local disk"):
        Store(tmp_path)


@pytest.mark.parametrize("statement", ["UPDATE labels SET value = 0", "DELETE FROM labels"])
def test_the_database_itself_refuses_to_change_labels(store, statement):
    store.add_labels("r", [Label("a", 1, "ann")])
    store.close()
    with (
        contextlib.closing(sqlite3.connect(store.path)) as plain,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        plain.execute(statement)
    assert store.labels("r") == {"a": 1}


def test_labels_cannot_be_replaced_through_the_store(store):
    store.add_labels("r", [Label("a", 1, "ann")])
    replace = 'REPLACE INTO labels SELECT label_id, run_id, sample_id, 0, "by", at, key FROM labels'
    with pytest.raises(StoreError, match="labels are append-only"), store._database.write() as connection:
        connection.exec_driver_sql(replace)
    assert store.labels("r") == {"a": 1}


def _newer(path):
    with contextlib.closing(sqlite3.connect(path)) as plain, plain:
        plain.execute("UPDATE schema_version SET version = 99")


def _not_a_database(path):
    path.write_bytes(b"these are my notes, not a database\n" * 200)


def _of_another_program(path):
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as plain, plain:
        plain.execute("CREATE TABLE songs (name TEXT)")


def _overwritten(path):
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xaa" * (path.stat().st_size - 3 * 4096))


def _cut_short(path):
    os.truncate(path, path.stat().st_size // 2)


NOT_A_STORE = [
    (_newer, "written by a newer mcdal .schema 99; .*upgrade mcdal"),
    (_not_a_database, "not a database: .*restore it from a backup, or use another --out"),
    (_of_another_program, "not an mcdal store: use another --out"),
    (_overwritten, "the file is damaged: restore it from a backup"),
    (_cut_short, "the file is damaged: restore it from a backup"),
]


@pytest.mark.parametrize("create", [True, False], ids=["to write", "as it stands"])
@pytest.mark.parametrize(("spoil", "words"), NOT_A_STORE, ids=[spoil.__name__[1:] for spoil, _ in NOT_A_STORE])
def test_what_is_not_a_store_is_named_and_left_as_it_is(tmp_path, spoil, words, create):
    path = filled(tmp_path)
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"(?s)mcdal\.db.*{words}"):
        status(tmp_path) if not create else Store(tmp_path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["mcdal.db"]


def test_damage_in_the_middle_is_found_before_anything_is_written(tmp_path):
    path = filled(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as plain:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'queries_by_round'"
        (page,) = plain.execute(query).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xaa" * 64)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"mcdal\.db.*the file is damaged"):
        Store(tmp_path)
    assert path.read_bytes() == before


def test_damage_met_while_many_rows_are_read(tmp_path):
    """Rows are read without SQLAlchemy where there are many: its errors are not the driver's."""
    path = filled(tmp_path, samples=5_000)
    with contextlib.closing(sqlite3.connect(path)) as plain:
        (page,) = plain.execute("SELECT rootpage FROM sqlite_master WHERE name = 'labels'").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xaa" * 4096)
    store = Store(tmp_path, create=False)  # does not read it through
    with pytest.raises(StoreError, match=r"mcdal\.db: .*: the file is damaged"):
        store.labels("r")
    store.close()


@pytest.mark.parametrize(
    "damage", ["UPDATE runs SET config = '{\"a'", "UPDATE sessions SET started_at = 'x', environment = x'ff'"]
)
def test_damage_that_sqlite_cannot_see(tmp_path, damage):
    path = filled(tmp_path)
    store = Store(tmp_path)
    store.begin_session("r", {})
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as plain, plain:
        plain.execute(damage)
    store = Store(tmp_path)
    with pytest.raises(StoreError, match=r"mcdal\.db: .*the file is damaged"):
        store.runs()
        store.last_environment("r")
    store.close()


def test_an_empty_file_without_runs_is_what_a_kill_at_the_start_leaves(tmp_path):
    (tmp_path / "mcdal.db").touch()
    with pytest.raises(StoreError, match=r"mcdal\.db is empty; `mcdal run"):
        Store(tmp_path, create=False)
    store = Store(tmp_path)
    assert store.runs() == []
    store.close()


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("empty", [True, False], ids=["empty", "missing"])
def test_rounds_without_their_store_are_not_taken_up_by_a_new_one(tmp_path, empty, create):
    run(Plan(fake_config()), tmp_path, device="cpu")
    (tmp_path / "mcdal.db").unlink()
    if empty:
        (tmp_path / "mcdal.db").touch()
    before = sorted(tmp_path.rglob("*"))
    state = "is empty" if empty else "does not exist"
    with pytest.raises(StoreError, match=rf"mcdal\.db {state}, but there are runs beside it: restore it"):
        Store(tmp_path, create)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_in_the_place_of_the_file(tmp_path):
    (tmp_path / "mcdal.db").mkdir()
    with pytest.raises(StoreError, match=r"mcdal\.db: unable to open"):
        Store(tmp_path)


@pytest.mark.parametrize(
    "name", ["with space", "a#b", "what?mode=ro", "100%41", "bücher 图 🐈", "x&immutable=1", "'\"$"]
)
def test_any_folder_name(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filled(Path(name))  # relative, as on the command line
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([name, "mcdal.db"])
    (found,) = status(tmp_path / name)
    assert found.labels == 400


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc here")
def test_a_folder_that_cannot_be_made():
    with pytest.raises(StoreError, match=r"cannot write to /proc/nothing/here: .*give another --out"):
        Store(Path("/proc/nothing/here"))


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot write to .*file: .*give another --out"):
        Store(tmp_path / "file")
    with pytest.raises(StoreError, match=r"no store in .*file"):
        Store(tmp_path / "file", create=False)


def test_permission_denied(tmp_path, monkeypatch):
    def mkdir(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(StoreError, match=r"cannot write to .*here: Permission denied; give another --out"):
        run(Plan(fake_config()), tmp_path / "here", device="cpu")


@contextlib.contextmanager
def somebody_else():
    if not hasattr(os, "geteuid"):
        pytest.skip("permissions are another matter here")
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if me == 0:
            os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that another user may enter, unlike those of tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


def forbid(folder):
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)


def test_status_of_a_folder_that_cannot_be_written(open_folder):
    run_folder = open_folder / "runs" / "r"
    filled(open_folder)
    run_folder.mkdir(parents=True)
    (run_folder / "lock").touch()
    (open_folder / "mcdal.db").chmod(0o444)
    open_folder.chmod(0o555)
    with somebody_else():
        before = sorted(open_folder.rglob("*"))
        (found,) = status(open_folder)
        assert (found.state, found.labels, found.accuracy) == ("interrupted", 400, 0.5)
        with pytest.raises(StoreError, match="cannot be"):
            Store(open_folder)
        assert sorted(open_folder.rglob("*")) == before


def test_status_of_a_folder_of_somebody_at_work(open_folder):
    filled(open_folder)
    store = Store(open_folder)
    store.add_labels("r", [Label("late", 1, "ann")])  # in the log, not yet in the file
    forbid(open_folder)
    with somebody_else():
        other = Store(open_folder, create=False)
        assert other.labels("r")["late"] == 1
        with pytest.raises(StoreError, match="cannot be written: change its permissions"):
            other.begin_session("r", {})
        other.close()
    open_folder.chmod(0o755)
    store.close()


def test_a_log_that_nobody_may_finish_is_not_passed_over(open_folder, tmp_path):
    filled(tmp_path)
    store = Store(tmp_path)
    store.add_labels("r", [Label("late", 1, "ann")])
    for name in ("mcdal.db", "mcdal.db-wal"):  # as somebody may copy a store in use
        (open_folder / name).write_bytes((tmp_path / name).read_bytes())
    store.close()
    forbid(open_folder)
    with somebody_else(), pytest.raises(StoreError, match=r"mcdal\.db: unable to open .*copy the folder"):
        Store(open_folder, create=False)


def test_a_store_that_may_be_read_only_is_not_begun(open_folder):
    filled(open_folder)
    (open_folder / "mcdal.db").chmod(0o444)
    open_folder.chmod(0o777)
    with somebody_else(), pytest.raises(StoreError, match=r"mcdal\.db: .*cannot be written: change its permissions"):
        Store(open_folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The content of a run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole")
    run(Plan(fake_config()), out, device="cpu")
    return content(out)


@pytest.mark.parametrize("room", [None, 0, 1], ids=["none at all", "for the tables", "for some rows"])
def test_a_full_database_is_told_and_continued_when_there_is_room(tmp_path, whole, room):
    pages = 1
    if room is not None:
        with contextlib.closing(Store(tmp_path)) as store, store.read() as connection:
            pages = room + pragma(connection, "page_count")

    def limit(connection, _record):
        connection.execute(f"PRAGMA max_page_count={pages}")

    event.listen(Engine, "connect", limit)
    try:
        with pytest.raises(StoreError, match=r"mcdal\.db: database or disk is full: .*free some space"):
            run(Plan(fake_config()), tmp_path, device="cpu")
    finally:
        event.remove(Engine, "connect", limit)
    run(Plan(fake_config()), tmp_path, device="cpu")
    assert content(tmp_path) == whole


@pytest.fixture
def small_disk(tmp_path):
    """A real disk of one megabyte; only root may have one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root on Linux")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("free", [0, 20, 60, 110, 150, 200], ids="{} kB free".format)
def test_a_full_disk_is_told_and_continued_when_there_is_room(small_disk, whole, free):
    ballast = small_disk / "ballast"
    room = os.statvfs(small_disk)
    ballast.write_bytes(b"x" * (room.f_bavail * room.f_frsize - free * 1024))
    with pytest.raises(StoreError, match=r"full|No space left on device") as told:
        run(Plan(fake_config()), small_disk / "out", device="cpu")
    assert "same command" in str(told.value)
    ballast.unlink()
    run(Plan(fake_config()), small_disk / "out", device="cpu")
    assert content(small_disk / "out") == whole
    assert list(small_disk.rglob("*.part")) == []


def test_no_query_of_labels_reads_the_whole_table(store):
    plans = []

    def explain(_connection, cursor, statement, parameters, *_):
        if statement.startswith("SELECT"):
            plans.extend(row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall())

    event.listen(Engine, "before_cursor_execute", explain)
    try:
        store.labels("r", through=3)
        store.unanswered("r", 0)
        store.last_environment("r")
    finally:
        event.remove(Engine, "before_cursor_execute", explain)
    for index in ("labels_by_run", "queries_by_round", "sessions_by_run"):
        assert any(index in step for step in plans), plans
    assert not [step for step in plans if step.startswith("SCAN")]


def test_a_large_store_is_read_through_only_after_a_kill(tmp_path, monkeypatch):
    Store(tmp_path).close()
    checked = []
    real = mcdal.sqlite.SqliteFile._check
    monkeypatch.setattr(mcdal.sqlite.SqliteFile, "_check", lambda self: checked.append(1) or real(self))
    Store(tmp_path).close()
    assert checked == [1]
    monkeypatch.setattr(mcdal.sqlite, "CHECKED_BYTES", 0)
    Store(tmp_path).close()
    assert checked == [1]
    open_elsewhere = Store(tmp_path)
    Store(tmp_path).close()  # its log is there, as it is after a kill
    assert checked == [1, 1]
    open_elsewhere.close()
