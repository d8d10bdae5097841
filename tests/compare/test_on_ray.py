"""A comparison on real clusters of this machine, whose worker, node and driver are really killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mcdal.command import Command
from mcdal.compare.asked import entries
from mcdal.compare.cell import Cell
from mcdal.compare.compare import compare
from mcdal.compare.on_ray import Cluster, RayTasks, cluster_of
from mcdal.environment import commit
from mcdal.errors import ConfigError
from mcdal.ray_cluster import connected
from mcdal.recipes.digits import digits
from mcdal.store import Store
from tests.passes.sharded import wait_until
from tests.runs import content

RECIPE = """
import os, time
from pathlib import Path
from mcdal.testing import fake_config
from mcdal.strategies.random import Random
from mcdal.strategies.margin import Margin
from mcdal.strategies.entropy import Entropy


def tiny():
    return fake_config(Random())


class Broken(Margin):
    def measure(self, batch):
        if (Path(FOLDER) / "broken").exists():
            raise RuntimeError("it broke")
        return super().measure(batch)


def slowly():
    with (Path(FOLDER) / "pids").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(0.25)


class Slow(Margin):
    def measure(self, batch):
        slowly()
        return super().measure(batch)


class Slower(Entropy):
    def measure(self, batch):
        slowly()
        return super().measure(batch)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(RECIPE.replace("FOLDER", repr(str(tmp_path))))
    return path


def nodes(*cpus):
    from ray.cluster_utils import Cluster as LocalCluster

    small = {"object_store_memory": 100 << 20}
    made = LocalCluster(initialize_head=True, head_node_args={"num_cpus": cpus[0], **small})
    for count in cpus[1:]:
        made.add_node(num_cpus=count, **small)
    made.wait_for_nodes()
    return made


@pytest.fixture(scope="class")
def node():
    """A cluster of one node of two CPUs."""
    pytest.importorskip("ray")
    made = nodes(2)
    yield made
    made.shutdown()


@pytest.fixture
def two_nodes():
    """Two nodes of one CPU each."""
    pytest.importorskip("ray")
    made = nodes(1, 1)
    yield made
    made.shutdown()


def started(file, strategies, address, *more, out="out", seeds="0"):
    """The driver, which is on no folder of its own: relative paths are those of the file's folder."""
    words = ["compare", "own.py:tiny", "--strategies", strategies, "--seeds", seeds, "--out", out, "--json", *more]
    where = ["--device", "cpu"] if address is None else ["--device", "cpu", "--on", address]
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", "mcdal", *words, *where], cwd=file.parent, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip


def told(process, code=0):
    said, errors = process.communicate(timeout=200)
    assert process.returncode == code and "Traceback" not in errors, said + errors
    return [json.loads(line) for line in said.splitlines()], errors


def assert_as_here(file, strategies, seeds="0"):
    """The same rows as of processes of this machine."""
    told(started(file, strategies, None, out="whole", seeds=seeds))
    there, here = content(file.parent / "out"), content(file.parent / "whole")
    assert {name: rows for name, rows in there.items() if name != "runs"} == {
        name: rows for name, rows in here.items() if name != "runs"
    }


def pids(file):
    log = file.parent / "pids"
    return [int(pid) for pid in log.read_text().split()] if log.exists() else []


def alive(pid):
    return Path(f"/proc/{pid}").exists()


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")  # Ray warns of what it does itself
class TestOnOneNode:
    def test_the_rows_are_those_of_this_machine_and_a_failure_stays_alone(self, node, file):
        (file.parent / "broken").touch()
        events, errors = told(started(file, "random,margin,own.py:Broken", node.address, seeds="0-1"), code=1)
        ends = {(e["strategy"], e["seed"]): (e["state"], e["why"]) for e in events if e["event"] == "end"}
        assert sorted(state for state, _ in ends.values()) == ["done"] * 4 + ["failed"] * 2
        assert ends["own.py:Broken", 0][1].startswith("RuntimeError: it broke (all of it: ")
        assert [e["round"] for e in events if e["event"] == "result" and e["run_id"].endswith("margin-s0")] == [
            0,
            1,
            2,
            3,
        ]
        assert "2 of 6 runs failed; the same command tries them again" in errors
        store = Store(file.parent / "out", create=False)
        starts = {r.run_id: store.rounds(r.run_id)[0].seconds["train"] for r in store.runs() if r.seed == 1}
        assert {e["threads"] for r in store.runs() for e in store.environments(r.run_id)} == {"1"}
        store.close()
        # Nothing is lent in a checkout whose files nobody has committed.
        assert len(starts) == 3 and len(set(starts.values())) == (3 if commit().endswith("+") else 1)

        events, _ = told(started(file, "random,margin", node.address, seeds="0-1"))
        assert [e["event"] for e in events] == ["shown"], "nothing is missing of these"
        broken = [path.name for path in (file.parent / "out" / "runs").glob("*Broken*")]
        (file.parent / "broken").unlink()
        events, _ = told(started(file, "random,margin,own.py:Broken", node.address, seeds="0-1"))
        assert sorted(e["run_id"] for e in events if e["event"] == "begin") == sorted(broken)
        assert_as_here(file, "random,margin,own.py:Broken", seeds="0-1")

    def test_a_worker_is_killed(self, node, file):
        process = started(file, "random,own.py:Slow", node.address)
        wait_until(lambda: len(pids(file)) >= 2, 120)
        os.kill(pids(file)[-1], signal.SIGKILL)
        events, _ = told(process)
        notes = [e["text"] for e in events if e["event"] == "note"]
        assert len(notes) == 1 and notes[0].startswith(
            "it is played again: its worker or node was lost (WorkerCrashedError"
        )
        assert len(set(pids(file))) == 2
        assert_as_here(file, "random,own.py:Slow")

    def test_the_driver_is_killed_and_the_same_command_goes_on(self, node, file):
        strategies = "random,own.py:Slow,own.py:Slower"
        process = started(file, strategies, node.address)
        wait_until(lambda: len(set(pids(file))) >= 2 and len(pids(file)) >= 4, 120)
        process.kill()
        process.communicate()
        events, _ = told(started(file, strategies, node.address))
        assert {e["state"] for e in events if e["event"] == "end"} == {"done"}
        assert not {("random", "begin")} & {(e.get("strategy"), e["event"]) for e in events}, "only what was missing"
        assert_as_here(file, strategies)

    def test_ctrl_c_ends_it_and_what_it_had_begun(self, node, file):
        process = started(file, "random,own.py:Slow,own.py:Slower", node.address)
        wait_until(lambda: len(set(pids(file))) >= 2, 120)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = told(process, code=130)
        assert time.monotonic() - begun < 15 and "stopped; the same command continues" in errors
        wait_until(lambda: not any(map(alive, pids(file))), 5)
        store = Store(file.parent / "out", create=False)
        with store.read() as connection:
            ends = connection.exec_driver_sql("SELECT outcome FROM sessions WHERE run_id LIKE '%Slow%'").scalars().all()
        store.close()
        assert ends == ["stopped"] * 2

    def test_what_the_cluster_cannot_hold_is_told_before_anything_is_written(self, node, file):
        for more, words in (
            (["--cpus", "3"], "cannot hold one run: it takes 3 CPUs, and its nodes have 2 CPUs and 0 GPUs"),
            (["--gpus", "1"], "cannot hold one run: it takes 1 CPUs and 1 GPUs"),
        ):
            assert words in told(started(file, "random", node.address, *more), code=2)[1]
        assert not (file.parent / "out").exists()


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
class TestOnTwoNodes:
    def test_a_store_of_sqlite_is_refused(self, two_nodes, file, monkeypatch):
        monkeypatch.delenv("MCDAL_DATABASE", raising=False)
        _, errors = told(started(file, "random", two_nodes.address), code=2)
        assert "is for one machine, and the Ray cluster has 2 nodes: give --database" in errors
        assert not (file.parent / "out").exists()

    @pytest.mark.postgres
    def test_a_node_is_killed(self, two_nodes, file, schemas):
        url, strategies = schemas.of(file.parent / "out"), "random,own.py:Slow,own.py:Slower"
        process = started(file, strategies, two_nodes.address, "--database", url)
        other = two_nodes.worker_nodes.copy().pop().all_processes["raylet"][0].process.pid
        wait_until(lambda: any(alive(pid) and parent(pid) == other for pid in pids(file)), 120)
        os.kill(other, signal.SIGKILL)
        events, _ = told(process)
        assert next(e["text"] for e in events if e["event"] == "note").startswith(
            "it is played again: its worker or node"
        )
        assert {e["state"] for e in events if e["event"] == "end"} == {"done"}
        assert not (file.parent / "out" / "mcdal.db").exists()
        assert_as_here(file, strategies)


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


# Without a cluster


def test_what_ray_prints_is_not_among_results(capsys):
    fake = SimpleNamespace(is_initialized=lambda: False, init=lambda **_: None, shutdown=lambda: None)
    with connected(fake, "auto", {}):
        thread = threading.Thread(target=print, args=("a worker died",), name="ray_listen_error_messages")
        thread.start()
        thread.join()
        print("a result")  # noqa: T201
    assert capsys.readouterr() == ("a result\n", "a worker died\n")


def test_what_only_one_machine_can_mean_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    for device in ("cuda:1", "mps"):
        with pytest.raises(ConfigError, match=f"--device {device}: on a cluster Ray gives each run its GPU"):
            RayTasks(Cluster("auto"), tmp_path, device, digits().training)
    with pytest.raises(ConfigError, match="give its address as well, --on auto"):
        cluster_of(None, 2, 1.0, None)
    assert cluster_of(None, 2, None, None) is None
    assert cluster_of("auto", 2, 1.0, None) == Cluster("auto", 2, 1.0)


def test_ray_that_is_not_installed_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"a comparison on a cluster needs ray: pip install 'mcdal\[ray\]'"):
        compare(Command("digits"), entries("random"), [0], tmp_path / "out", on=Cluster("auto"))
    assert not (tmp_path / "out").exists()


@pytest.mark.sqlite
def test_sqlite_is_refused_where_there_are_nodes_and_nothing_is_written(tmp_path, monkeypatch):
    two = [{"Alive": True, "Resources": {"CPU": 1.0}}] * 2
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True, nodes=lambda: two))
    monkeypatch.delenv("MCDAL_DATABASE", raising=False)
    with pytest.raises(ConfigError, match="for one machine, and the Ray cluster has 2 nodes: give --database"):
        compare(Command("digits"), entries("random"), [0], tmp_path / "out", on=Cluster("auto"))
    assert not (tmp_path / "out").exists()


class FakeRay:
    """Ray as far as a comparison asks it: nodes, and calls whose answers are given, or raised, one after the other."""

    class exceptions:  # noqa: N801
        class RayError(Exception): ...

        class RayTaskError(RayError): ...

        class WorkerCrashedError(RayError): ...

        class RayActorError(RayError): ...

        class GetTimeoutError(RayError): ...

        class TaskCancelledError(RayError): ...

        class RuntimeEnvSetupError(RayError): ...

        class TaskUnschedulableError(RayError): ...

    def __init__(self, answers=(), **resources):
        self.resources, self.answers, self.tasks, self.mail = resources, list(answers), [], []
        self.util = SimpleNamespace(
            scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=lambda *_, **__: "")
        )

    def nodes(self):
        return [{"Alive": True, "Resources": self.resources}]

    def is_initialized(self):
        return True

    def get_runtime_context(self):
        return SimpleNamespace(get_node_id=lambda: "0")

    def remote(self, *args, **options):
        if args:  # the mailbox
            take = SimpleNamespace(remote=lambda: "mail")
            return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda: SimpleNamespace(take=take)))
        self.options = options
        return lambda _: SimpleNamespace(remote=self._call)

    def _call(self, order, _mailbox):
        self.tasks.append(order)
        return len(self.tasks)

    def wait(self, calls, num_returns, timeout):
        return calls[:1], calls[1:]

    def get(self, call, timeout=None):
        if call == "mail":
            said, self.mail = self.mail, []
            return said
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self, call, force=False): ...

    def kill(self, actor): ...


def cell_of(strategy):
    command = Command("digits", strategy=strategy)
    return Cell(command, command.plan())


@pytest.mark.sqlite
def test_a_task_takes_what_its_processes_need_and_auto_is_what_the_cluster_has(tmp_path, monkeypatch):
    four = replace(digits().training, processes=4)
    for training, device, shares, more, options, at_once in (
        (digits().training, "auto", {"CPU": 8.0, "GPU": 2.0}, {}, (1.0, 1.0), 2),
        (digits().training, "cpu", {"CPU": 8.0, "GPU": 2.0}, {}, (1.0, 0.0), 8),
        (digits().training, "auto", {"CPU": 8.0}, {"cpus": 3.0}, (3.0, 0.0), 2),
        (four, "cuda", {"CPU": 8.0, "GPU": 8.0}, {}, (4.0, 4.0), 2),
        (four, "auto", {"CPU": 1.0}, {"workers": 5}, (4.0, 0.0), 5),
    ):
        ray = FakeRay(**shares)
        monkeypatch.setitem(sys.modules, "ray", ray)
        with RayTasks(Cluster("auto", **more), tmp_path, device, training) as players:
            players.begin(cell_of("random"))
            assert (ray.options["num_cpus"], ray.options["num_gpus"], players.at_once) == (*options, at_once)
            assert ray.tasks[0].device == ("cuda" if options[1] else "cpu")


@pytest.mark.sqlite
def test_what_became_of_a_task(tmp_path, monkeypatch):
    failures = FakeRay.exceptions
    ray = FakeRay(
        ["", "RuntimeError: it broke", failures.WorkerCrashedError("it died\nand more"), failures.TaskCancelledError("by ann"),
         failures.RayTaskError("Traceback\n  ...\nModuleNotFoundError: no mcdal")],
        CPU=8.0,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", ray)
    heard = []
    with RayTasks(Cluster("auto"), tmp_path, "cpu", digits().training) as players:
        for _ in range(5):
            players.begin(cell_of("random"))
            ray.mail = [
                ("r", line) for line in ('{"event": "begin"}', '{"event": "result", "round": 0}', '{"event": "over"}')
            ]
            heard.append([(word.kind, word.why) for word in players.listen()])
    assert all(turn[:-1] == [("begin", ""), ("event", "")] for turn in heard), "what a run says comes before its end"
    assert [turn[-1] for turn in heard] == [
        ("end", ""), ("end", "RuntimeError: it broke"),
        ("lost", "its worker or node was lost (WorkerCrashedError: it died)"),
        ("end", "TaskCancelledError: by ann"), ("end", "ModuleNotFoundError: no mcdal"),
    ]  # fmt: skip
