"""What `mcdal status` says, whatever happened to the runs."""

import json
import time

import pytest
from sqlalchemy import insert

from mcdal import schema
from mcdal import status as status_module
from mcdal.artifacts import Artifacts
from mcdal.errors import StoreError
from mcdal.status import RunStatus, show, status
from mcdal.store import Store, _now
from tests.test_store import picks, record


def begun(store, run_id, rounds_done, outcomes, total=3):
    """A run with some rounds finished, and a session for each outcome."""
    store.add_run(record(run_id, total))
    for outcome in outcomes:
        number = store.begin_session(run_id, {})
        if outcome is not None:
            store.end_session(number, outcome)
    for round in range(rounds_done):
        store.begin_round(run_id, round, 1, picks(f"{round}/a", f"{round}/b"), True, {})
        store.finish_round(run_id, round, {"test/accuracy": round / 10, "test/loss": 1.0}, {})


STATES = [
    ("not yet at work", 0, [], "interrupted", "the same command continues it"),
    ("killed", 1, [None], "interrupted", "the same command continues it"),
    ("killed again", 1, ["waiting", None], "interrupted", "the same command continues it"),
    ("stopped", 2, [None, "stopped"], "interrupted", "the same command continues it"),
    ("waits", 1, ["stopped", "waiting"], "waiting", "for labels"),
    ("failed", 1, [None, "TrainingError: round 1: nan"], "broken", "TrainingError: round 1: nan"),
    ("done", 3, ["stopped", "done"], "done", ""),
    ("killed after its last round", 3, [None], "done", ""),
]


@pytest.mark.parametrize(("name", "done", "outcomes", "state", "why"), STATES, ids=[state[0] for state in STATES])
def test_states(tmp_path, name, done, outcomes, state, why):
    store = Store(tmp_path)
    begun(store, "other", 2, ["done"], total=2)  # does not mix
    begun(store, name, done, outcomes)
    store.close()
    accuracy = (done - 1) / 10 if done else None
    assert status(tmp_path)[1] == RunStatus(name, state, done, 3, 2 * done, accuracy, len(outcomes), why)


def test_a_round_under_way_does_not_count(tmp_path):
    store = Store(tmp_path)
    begun(store, "r", 1, [None])
    store.begin_round("r", 1, 1, picks("x"), True, {})
    store.close()
    (found,) = status(tmp_path)
    assert (found.rounds_done, found.labels) == (1, 2)


@pytest.mark.parametrize("outcomes", [[None], ["broke"], ["done"]])
def test_a_run_that_is_held_is_running(tmp_path, outcomes):
    store = Store(tmp_path)
    begun(store, "r", 3, outcomes)
    store.close()
    with Artifacts(tmp_path / "runs" / "r").only_process():
        assert [(found.state, found.why) for found in status(tmp_path)] == [("running", "")]
    assert status(tmp_path)[0].state != "running"


def test_a_run_that_ends_while_we_look(tmp_path, monkeypatch):
    """Between the look at its lock and the look into the store."""
    store = Store(tmp_path)
    begun(store, "r", 1, [None])
    real = status_module.is_locked

    def is_locked(path):
        answer = real(path)
        store.end_session(1, "waiting")
        return answer

    (tmp_path / "runs" / "r").mkdir(parents=True)
    monkeypatch.setattr(status_module, "is_locked", is_locked)
    assert status(tmp_path)[0].state == "waiting"
    store.close()


def test_a_run_that_begins_while_we_look(tmp_path, monkeypatch):
    store = Store(tmp_path)
    begun(store, "r", 1, [None])
    store.close()
    answers = iter([False, True])
    (tmp_path / "runs" / "r").mkdir(parents=True)
    monkeypatch.setattr(status_module, "is_locked", lambda path: next(answers))
    assert status(tmp_path)[0].state == "running"


def test_the_oldest_run_is_first(tmp_path):
    store = Store(tmp_path)
    for name in ("z", "m", "a"):
        begun(store, name, 0, [])
    store.close()
    assert [found.run_id for found in status(tmp_path)] == ["z", "m", "a"]


@pytest.mark.sqlite
def test_looking_changes_nothing(tmp_path):
    Store(tmp_path).close()
    before = (tmp_path / "mcdal.db").read_bytes()
    assert status(tmp_path) == []
    assert (tmp_path / "mcdal.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["mcdal.db"]
    with pytest.raises(StoreError, match="no store in"):
        status(tmp_path / "elsewhere")


def test_status_does_not_wait_for_who_writes(tmp_path):
    store = Store(tmp_path)
    begun(store, "r", 1, ["stopped"])
    with store._database.write():
        begin = time.monotonic()
        assert len(status(tmp_path)) == 1
        assert time.monotonic() - begin < 5
    store.close()


def test_a_thousand_runs_are_quick(tmp_path):
    store, now = Store(tmp_path), _now()
    ids = [f"run{i}" for i in range(1000)]
    rows = {
        schema.runs: [vars(record(id)) | {"created_at": now} for id in ids],
        schema.sessions: [{"run_id": id, "started_at": now, "environment": {}} for id in ids * 2],
        schema.rounds: [
            {"run_id": id, "round": k, "seed": 1, "labeled": k, "started_at": now, "finished_at": now, "seconds": {}}
            for id in ids
            for k in range(3)
        ],
        schema.metrics: [
            {"run_id": id, "round": k, "name": name, "value": 0.5}
            for id in ids
            for k in range(3)
            for name in ("test/accuracy", "test/loss")
        ],
    }
    with store._database.write() as connection:
        for table, values in rows.items():
            connection.execute(insert(table), values)
    store.close()
    for id in ids:
        folder = tmp_path / "runs" / id
        folder.mkdir(parents=True)
        (folder / "lock").touch()
    begin = time.monotonic()
    found = status(tmp_path)
    assert time.monotonic() - begin < 5
    assert len(found) == 1000
    assert {(each.state, each.rounds_done, each.labels, each.accuracy, each.sessions) for each in found} == {
        ("done", 3, 2, 0.5, 2)
    }


def test_shown_as_a_table_and_as_json(capsys):
    runs = [
        RunStatus("a-s0", "done", 3, 3, 12_345, 0.91234, 2, ""),
        RunStatus("b-s0", "broken", 0, 3, 0, None, 1, "Error: [red]x[/b]"),
    ]
    show(runs, as_json=False)
    said = capsys.readouterr().out
    for part in ("a-s0", "12,345", "91.23 %", "3/3", "Error: [red]x[/b]"):
        assert part in said
    show(runs, as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["run_id"] for line in lines] == ["a-s0", "b-s0"]
    assert lines[1]["accuracy"] is None and lines[1]["why"] == "Error: [red]x[/b]"
