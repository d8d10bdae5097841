"""What a task does, without a cluster: the run that `mcdal run` would play, its words, and what it refuses."""

import json
import os
import platform
from dataclasses import replace

import pytest

from mcdal.artifacts import Artifacts
from mcdal.command import Command
from mcdal.compare.ray_task import MARK, Order, play
from mcdal.loop import run
from tests.compare.test_compare import RECIPE
from tests.runs import content


@pytest.fixture
def order(tmp_path):
    (tmp_path / "own.py").write_text(RECIPE)
    out = tmp_path / "out"
    out.mkdir()
    (out / MARK).write_text("here")
    return ordered(tmp_path, "margin")


def ordered(folder, strategy):
    command = Command(f"{folder / 'own.py'}:tiny", strategy=strategy)
    return Order(command, command.plan().run_id, folder / "out", "cpu", folder, "here", platform.node())


def played(order, **more):
    told = []
    why = play(order, lambda line: told.append(json.loads(line)), **more)
    return why, told


def test_it_is_the_same_run(order, tmp_path):
    before = os.getcwd()  # noqa: PTH109
    why, told = played(order)
    assert why == "" and os.getcwd() == before  # noqa: PTH109
    assert [each["event"] for each in told if each["event"] in ("begin", "run")] == ["begin", "run"]
    results = [each for each in told if each["event"] == "result"]
    assert [each["round"] for each in results] == [0, 1, 2, 3] and results[-1]["labels"] == 30
    run(order.command.plan(), tmp_path / "plain", device="cpu")
    assert content(tmp_path / "out") == content(tmp_path / "plain")
    assert len(told) < 40, "progress is told now and then"


def test_a_failure_is_told_as_by_mcdal_run(order, tmp_path):
    broken = ordered(tmp_path, f"{tmp_path / 'own.py'}:Broken")
    log = tmp_path / "out" / "runs" / broken.run_id / "compare.log"
    assert played(broken)[0] == f"RuntimeError: it broke (all of it: {log})"
    assert "in measure" in log.read_text()


def test_a_machine_that_does_not_see_the_folder_is_told(order, tmp_path):
    here = platform.node()
    assert f"{here} does not see the folder" in played(replace(order, mark="elsewhere"))[0]
    assert "give an --out on a disk that all" in played(replace(order, out=tmp_path / "not there"))[0]
    assert not (tmp_path / "out" / "runs").exists() and not (tmp_path / "not there").exists()


def test_another_machine_than_that_of_sqlite_is_refused(order):
    assert (
        f"for one machine, and {platform.node()} is another machine than far"
        in played(replace(order, machine="far"))[0]
    )
    assert played(replace(order, machine=None))[0] == ""


def test_a_command_that_means_another_run_there_is_refused(order):
    assert f"means {order.run_id}, where it was given other-s0" in played(replace(order, run_id="other-s0"))[0]


def test_a_run_that_somebody_holds_is_waited_for(order, tmp_path):
    held = Artifacts(tmp_path / "out" / "runs" / order.run_id)
    with held.only_process():
        why, told = played(order, patience=1.5)
    assert why.startswith("another process is working on")
    assert [each["text"] for each in told if each["event"] == "note"] == [f"waits: {why}"]
    assert played(order)[0] == ""
