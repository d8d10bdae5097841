"""The store: what is recorded stays, whoever writes beside it, in a file and on a server."""

import contextlib
import multiprocessing
import re
import sys
import time
import warnings
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from sqlalchemy import select, text

import mcdal.address
from mcdal import schema
from mcdal.errors import StoreError
from mcdal.status import status
from mcdal.store import RunRecord, Store
from mcdal.values import Label, Picks

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def record(run_id="r", rounds=3):
    config = {"protocol": {"rounds": rounds}}
    return RunRecord(run_id, "recipe", "full", "Random", 0, {}, config, ["a", "b"], 100, "data", [])


def picks(*ids):
    return Picks(ids, np.zeros(len(ids)))


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    store.add_run(record())
    yield store
    store.close()


def filled(folder, samples=400):
    """A closed store of several pages: one run, one round, one label a sample."""
    store = Store(folder)
    store.add_run(record())
    ids = [f"folder/{i:05d}.png" for i in range(samples)]
    store.begin_round("r", 0, 1, picks(*ids), False, {})
    store.add_labels("r", [Label(id, 1, "ann") for id in ids])
    store.finish_round("r", 0, {"test/accuracy": 0.5}, {})
    store.close()
    return folder / "mcdal.db"


# Transactions


def test_a_reader_sees_one_state_throughout(store):
    other = Store(store.path.parent, create=False)
    count = text("SELECT count(*) FROM labels")
    with other.read() as connection:
        assert connection.execute(count).scalar_one() == 0
        store.add_labels("r", [Label("a", 0, "ann")])
        assert connection.execute(count).scalar_one() == 0
    assert other.labels("r") == {"a": 0}
    other.close()


def test_a_transaction_is_recorded_whole_or_not_at_all(store):
    with pytest.raises(StoreError, match="round 0: test/loss is not a number"):
        store.begin_round("r", 0, 1, picks("a"), False, {})
        store.finish_round("r", 0, {"test/accuracy": 0.5, "test/loss": float("nan")}, {})
    assert store.metrics("r") == [] and store.rounds("r")[0].finished_at is None


# Labels and queries


def test_a_correction_is_a_newer_row(store):
    store.add_labels("r", [Label("a", 1, "ann", NOON), Label("b", 0, "ann", NOON)])
    store.add_labels("r", [Label("a", 0, "bob", NOON - timedelta(days=1))])  # newest: recorded last
    assert store.labels("r") == {"a": 0, "b": 0}
    assert len(rows_of(store, "labels")) == 3


def test_the_same_label_said_twice_is_kept_once(store):
    said = [Label("a", 1, "ann", NOON), Label("a", 1, "ann", NOON)]
    store.add_labels("r", said)
    store.add_labels("r", said)
    east = timezone(timedelta(hours=2))
    store.add_labels("r", [Label("a", 1, "ann", NOON.astimezone(east))])
    given = schema.labels.c
    with store.read() as connection:
        (row,) = connection.execute(select(given.sample_id, given.value, given.by, given.at)).all()
    assert row == ("a", 1, "ann", NOON.replace(tzinfo=None))


def test_labels_that_differ_are_never_taken_for_the_same(store):
    store.add_labels("r", [Label("s", 1, "2/z", NOON), Label("s/1", 2, "z", NOON), Label("s", 1, "z", NOON)])
    assert len(rows_of(store, "labels")) == 3
    store.add_labels("r", [])


def test_labels_through_a_round(store):
    store.begin_round("r", 0, 1, picks("a", "b"), False, {})
    store.begin_round("r", 1, 1, picks("c"), True, {})
    store.add_labels("r", [Label(id, 1, "ann") for id in "abc"])
    assert list(store.labels("r", through=0)) == ["a", "b"]
    assert list(store.labels("r", through=1)) == list(store.labels("r")) == ["a", "b", "c"]
    assert store.labels("r", through=-1) == {}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("c", "a"), "round 1 of r asks for a, which round 0 asked for"),
        (("c", "d", "d"), "round 1 of r asks for d twice"),
    ],
)
def test_a_sample_is_asked_for_once_a_run(store, asked, words):
    store.begin_round("r", 0, 1, picks("a", "b"), False, {})
    with pytest.raises(StoreError, match=re.escape(f"{store.name}: {words}")):
        store.begin_round("r", 1, 1, picks(*asked), False, {})
    assert len(store.rounds("r")) == 1 and len(rows_of(store, "queries")) == 2


def test_what_is_recorded_is_not_recorded_again(store):
    with pytest.raises(StoreError, match="the run r is there already"):
        store.add_run(record())
    store.begin_round("r", 0, 1, picks("a"), False, {})
    with pytest.raises(StoreError, match=r"rounds.*: what is recorded stands"):
        store.begin_round("r", 0, 1, picks("b"), False, {})
    with pytest.raises(StoreError, match=r"(?i)foreign key"):
        store.add_labels("nobody", [Label("a", 1, "ann")])


def test_numbers_arrive_as_numbers(store):
    store.begin_round("r", 0, 1, Picks(("a",), np.float32([0.25])), True, {})
    store.finish_round("r", 0, {"test/accuracy": np.float64(0.5)}, {})
    assert rows_of(store, "queries")[0][3] == 0.25
    assert store.metrics("r")[0].value == 0.5
    with pytest.raises(StoreError, match="the score of b is not a number"):
        store.begin_round("r", 1, 1, Picks(("b",), np.array([np.nan])), True, {})


def rows_of(store, table):
    with store.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]


# Several processes


def _say(folder, me, together):
    together.wait()
    store = Store(folder)  # all four create it at once
    with contextlib.suppress(StoreError):
        store.add_run(record())
    together.wait()
    for i in range(10):
        same = Label(f"all/{i}", 1, "all", NOON)  # everybody says these
        store.add_labels("r", [same, Label(f"{me}/{i}", 0, me)])
    store.close()


def test_four_processes_at_once_lose_and_double_no_label(tmp_path):
    mcdal.address.default_url(tmp_path)  # a schema is made here, and not by four processes over one connection
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    together = context.Barrier(5, timeout=60)
    writers = [context.Process(target=_say, args=(tmp_path, f"p{i}", together)) for i in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: these do without them
        for writer in writers:
            writer.start()
    together.wait()
    together.wait()
    store, seen = Store(tmp_path, create=False), 0
    while any(writer.is_alive() for writer in writers):
        now = len(store.labels("r"))  # reading while they write
        assert now >= seen
        seen = now
        time.sleep(0.02)
    assert [writer.exitcode for writer in writers] == [0] * 4
    expected = {f"{who}/{i}": int(who == "all") for who in ("p0", "p1", "p2", "p3", "all") for i in range(10)}
    assert store.labels("r") == expected
    assert len(rows_of(store, "labels")) == len(expected)
    store.close()


def test_no_store_is_told_and_nothing_is_made(tmp_path):
    with pytest.raises(StoreError, match=r"no store in .*here: .*`mcdal run"):
        Store(tmp_path / "here", create=False)
    assert list(tmp_path.iterdir()) == []


# Size


def test_a_large_run_is_quick(tmp_path):
    """Minutes, were it not for the indexes; the bounds are loose for the sake of slow machines."""
    store = Store(tmp_path)
    store.add_run(record())
    for round in range(20):
        ids = [f"{round}/{i}" for i in range(2500)]
        store.begin_round("r", round, 1, picks(*ids), True, {})
        store.add_labels("r", [Label(id, 1, "ann") for id in ids])
    begun = time.monotonic()
    assert len(store.labels("r", through=9)) == 25_000
    assert len(store.asked("r", 19)) == 2500
    store.begin_round("r", 20, 1, picks(*[f"20/{i}" for i in range(2500)]), True, {})
    assert status(tmp_path)[0].state == "interrupted"
    assert time.monotonic() - begun < 5
    store.close()


def test_labels_that_others_add_are_seen(store):
    """What is known of a run is caught up with, whoever wrote it: a correction, another round, a sample nobody asked for."""
    store.begin_round("r", 0, 1, picks("a", "b"), True, {})
    store.add_labels("r", [Label("a", 1, "x")])
    assert store.labels("r") == store.labels("r", through=0) == {"a": 1}
    other = Store(store.path.parent)
    other.add_labels("r", [Label("a", 2, "y"), Label("b", 0, "y"), Label("z", 5, "y"), Label("c", 3, "y")])
    assert store.labels("r") == {"a": 2, "b": 0, "z": 5, "c": 3}
    assert store.labels("r", through=0) == {"a": 2, "b": 0}
    other.begin_round("r", 1, 1, picks("c", "d"), True, {})
    assert store.labels("r", through=0) == {"a": 2, "b": 0}
    assert store.labels("r", through=1) == {"a": 2, "b": 0, "c": 3}
    assert other.labels("r", through=1) == store.labels("r", through=1)
    other.close()
    store.labels("r")["a"] = 9  # a copy
    assert store.labels("r")["a"] == 2


def test_unanswered_samples_by_rank(store):
    store.begin_round("r", 0, 1, picks("b", "a", "c"), True, {})
    assert store.unanswered("r", 0) == ("b", "a", "c")
    store.add_labels("r", [Label("a", 1, "x")])
    assert store.unanswered("r", 0) == ("b", "c")
    assert store.unanswered("r", 1) == ()
