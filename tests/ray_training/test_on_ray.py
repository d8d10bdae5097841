"""Runs that are trained on a real cluster of this machine, whose ranks, nodes and driver are really killed."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mcdal import registry
from mcdal.command import Command
from mcdal.config import Protocol
from mcdal.errors import ConfigError, TrainingError
from mcdal.loop import run
from mcdal.passes import OnRay
from mcdal.plan import Plan
from mcdal.ray_training import TrainOnRay
from mcdal.schedule import Optimization
from mcdal.strategies.ll import LearningLoss
from mcdal.strategies.mcdal import MCDAL
from mcdal.strategies.random import Random
from mcdal.strategies.vaal import VAAL
from mcdal.testing import fake_config, fake_scene_config, fake_training
from tests.passes.sharded import wait_until
from tests.runs import content

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]  # Ray warns of what it does itself

OWN = """
from mcdal.strategies.mcdal import MCDAL

class Mine(MCDAL):
    def extra_loss(self, batch, losses, progress):
        return super().extra_loss(batch, losses, progress)
"""


def cluster_of(*cpus):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100 << 20}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus[0], **small})
    for count in cpus[1:]:
        made.add_node(num_cpus=count, **small)
    made.wait_for_nodes()
    return made


def closed(cluster):
    import ray

    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="class")
def cluster():
    """Two nodes of one CPU each."""
    made = cluster_of(1, 1)
    yield made
    closed(made)


@pytest.fixture
def three_nodes():
    """The first without a CPU: no rank is on it."""
    made = cluster_of(0, 1, 1, 1)
    yield made
    closed(made)


@pytest.fixture
def shards(tmp_path):
    """300 digits in three Parquet files."""
    import pyarrow
    import pyarrow.parquet
    from PIL import Image
    from sklearn.datasets import load_digits

    found, folder = load_digits(), tmp_path / "shards"
    folder.mkdir()
    for first in range(0, 300, 100):
        images = []
        for pixels in found.images[first : first + 100]:
            sink = io.BytesIO()
            Image.fromarray((pixels * 15.9).astype("uint8")).save(sink, "PNG")
            images.append(sink.getvalue())
        labels = [f"digit {label}" for label in found.target[first : first + 100]]
        pyarrow.parquet.write_table(pyarrow.table({"image": images, "label": labels}), folder / f"{first}.parquet")
    return folder


def played(out, strategy, processes, train_on=None, make=fake_config, **changes):
    """What `after` gives of a short run, and what was said."""
    training = fake_training(precision="float64", processes=processes, **changes)
    config = replace(make(strategy, protocol=Protocol(12, 6, rounds=2)), training=training)
    heard = []
    run_id = run(
        Plan(config), out, device="cpu", train_on=train_on,
        listen=lambda kind, **fields: heard.append(fields.get("text", kind)),
    )  # fmt: skip
    return *after(out, run_id), heard


def after(out, run_id):
    """Everything in the store and the models of the rounds, after a start and a batch that was picked."""
    models = {path.parent.name: path.read_bytes() for path in (out / "runs" / run_id).rglob("model.safetensors")}
    assert len(models) == 2
    return content(out), models


class TestWithoutAKill:
    @pytest.mark.parametrize(
        ("make", "processes"),
        [(MCDAL, 2), (partial(VAAL, width=2, latent=4, size=16), 2), (LearningLoss, 1), (Random, 1)],
    )
    def test_networks_metrics_and_picks_are_those_of_this_machine(self, cluster, tmp_path, make, processes):
        here = played(tmp_path / "here", make(), processes)
        there = played(tmp_path / "there", make(), processes, TrainOnRay(cluster.address))
        assert here[0] == there[0]
        assert here[1] == there[1]
        begun = next(text for text in there[2] if text.startswith(f"trained by {processes} process"))
        assert begun.endswith("cpu in float64")

    def test_masks_that_were_given_are_learned_from(self, cluster, tmp_path):
        here = played(tmp_path / "here", MCDAL(), 1, make=fake_scene_config)
        there = played(tmp_path / "there", MCDAL(), 1, TrainOnRay(cluster.address), fake_scene_config)
        assert here[:2] == there[:2]

    def test_a_pool_in_shards_is_measured_there_too(self, cluster, tmp_path, shards):
        settings = (
            "source.size=8", "model.width=4", "training.epochs=1", "training.steps_per_epoch=4", "training.batch_size=16",
            "protocol.start=20", "protocol.budget=10", "protocol.rounds=2", "training.precision=float64",
        )  # fmt: skip
        plan = Command("shards", shards, "mcdal", scale="small", settings=settings).plan()
        where = {"engine": OnRay(cluster.address, workers=1), "train_on": TrainOnRay(cluster.address)}
        here, there = (
            after(tmp_path / out, run(plan, tmp_path / out, device="cpu", **given))
            for out, given in (("here", {}), ("there", where))
        )
        assert here == there

    def test_a_strategy_of_a_file_travels(self, cluster, tmp_path):
        (tmp_path / "own.py").write_text(OWN)
        mine = registry.load("strategies", str(tmp_path / "own.py:Mine"))
        here = played(tmp_path / "here", mine(), 1)
        there = played(tmp_path / "there", mine(), 1, TrainOnRay(cluster.address))
        assert here[:2] == there[:2]

    def test_a_loss_that_is_not_finite_is_told_as_on_this_machine(self, cluster, tmp_path):
        told = []
        for name, train_on in (("here", None), ("there", TrainOnRay(cluster.address))):
            with pytest.raises(TrainingError, match="round 0: the training loss is") as caught:
                played(tmp_path / name, Random(), 2, train_on, optimization=Optimization(lr=1e200))
            told.append(str(caught.value))
        assert told[0] == told[1]

    def test_what_the_cluster_can_never_hold_is_told_before_anything_is_written(self, cluster, tmp_path):
        for asks, processes, words in (
            (
                {"gpus": 1.0},
                1,
                "cannot hold 1 process.* asks for 1 CPUs and 1 GPUs, and its nodes have 1 CPUs and 0 GPUs;",
            ),
            ({}, 4, "cannot hold 4 processes .* set training.processes to 2"),
        ):
            with pytest.raises(ConfigError, match=words):
                played(tmp_path / "out", Random(), processes, TrainOnRay(cluster.address, **asks))
        assert not (tmp_path / "out").exists()

    def test_a_cluster_that_others_have_taken_is_waited_for_and_told(self, cluster, tmp_path):
        import ray

        ray.init(address=cluster.address, log_to_driver=False)
        try:
            taking = ray.remote(num_cpus=1)(Taking).remote()
            ray.get(taking.here.remote())
            words = "round 0: there was no room on the Ray cluster for 7 s: 2 processes .* and free are {'CPU': 1.0}"
            with pytest.raises(TrainingError, match=words):
                played(tmp_path / "out", Random(), 2, TrainOnRay("auto", patience=7.0))
            ray.kill(taking)
            *_, heard = played(tmp_path / "out", Random(), 2, TrainOnRay("auto"))
            assert any(text.startswith("trained by 2 processes") for text in heard)
        finally:
            ray.shutdown()

    def test_what_always_dies_is_given_up(self, cluster, tmp_path):
        with pytest.raises(TrainingError, match="was lost 4 times without getting on, the last time: process 0 on"):
            played(tmp_path / "out", Deadly(), 1, TrainOnRay(cluster.address))


class Taking:
    def here(self):
        return True


class Deadly(Random):
    def step(self, labeled, unlabeled, progress):
        os.kill(os.getpid(), signal.SIGKILL)


class Driver:
    """`mcdal run` as a process of its own."""

    def __init__(self, folder, address, seconds="0.3", out="out"):
        (folder / "seconds").write_text(seconds)
        where = [] if address is None else ["--on", address, "--train-there"]
        paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        words = ["run", "tests.ray_training.slow:slow", "--out", out, "--device", "cpu", "--json", *where]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mcdal", *words],
            cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip

    def notices(self):
        said, errors = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, said + errors
        return [e["text"] for e in map(json.loads, said.splitlines()) if e["event"] == "notice"]


def steps(folder, rank=0):
    """Process and number of each step that a rank has begun."""
    log = folder / "log"
    lines = [tuple(map(int, line.split())) for line in log.read_text().splitlines()] if log.exists() else []
    return [(pid, step) for at, pid, step in lines if at == rank]


def alive(pid):
    return Path(f"/proc/{pid}").exists()


def parent(pid):
    """0 where the process has just gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def children(pid):
    found = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return [each for each in found if parent(each) == pid]


def assert_as_on_this_machine(folder):
    Driver(folder, None, "0", "whole").notices()
    assert content(folder / "out") == content(folder / "whole")
    models = {
        out: [path.read_bytes() for path in sorted((folder / out / "runs").rglob("model.safetensors"))]
        for out in ("out", "whole")
    }
    assert models["out"] == models["whole"] and len(models["out"]) == 2


def assert_went_on(folder):
    """Beside the steps after the last checkpoint nothing was trained twice: 2 rounds of 8 steps."""
    begun = steps(folder)
    assert len({pid for pid, _ in begun}) == 3, "one of each round, and one that took another's place"
    assert 16 <= len(begun) < 16 + 6, begun


class TestKills:
    @pytest.mark.parametrize("rank", [0, 1])
    def test_a_rank_is_killed(self, cluster, tmp_path, rank):
        driver = Driver(tmp_path, cluster.address)
        wait_until(lambda: any(step >= 5 for _, step in steps(tmp_path, rank)), 120)
        os.kill(steps(tmp_path, rank)[-1][0], signal.SIGKILL)
        notices = driver.notices()
        again = [text for text in notices if "with new processes" in text]
        assert len(again) == 1 and again[0].startswith("the training goes on from step "), notices
        assert f": process {rank} on " in again[0] and "was lost" in again[0]
        assert_went_on(tmp_path)
        assert_as_on_this_machine(tmp_path)

    def test_the_driver_is_killed_and_its_processes_end(self, cluster, tmp_path):
        driver = Driver(tmp_path, cluster.address)
        wait_until(lambda: any(step >= 5 for _, step in steps(tmp_path)), 120)
        driver.process.kill()
        driver.process.communicate()
        ranks = {steps(tmp_path, rank)[-1][0] for rank in (0, 1)}
        wait_until(lambda: not any(map(alive, ranks)), 30)
        notices = Driver(tmp_path, cluster.address).notices()
        assert not any("with new processes" in text for text in notices)
        assert_went_on(tmp_path)
        assert_as_on_this_machine(tmp_path)

    def test_ctrl_c_ends_all(self, cluster, tmp_path):
        driver = Driver(tmp_path, cluster.address)
        wait_until(lambda: len(steps(tmp_path)) > 2, 120)
        begun = time.monotonic()
        driver.process.send_signal(signal.SIGINT)
        _, errors = driver.process.communicate(timeout=60)
        assert driver.process.returncode == 130 and "stopped; the same command continues" in errors
        ranks = {steps(tmp_path, rank)[-1][0] for rank in (0, 1)}
        wait_until(lambda: not any(map(alive, ranks)), 10)
        assert time.monotonic() - begun < 30


def test_a_node_is_killed(three_nodes, tmp_path):
    driver = Driver(tmp_path, three_nodes.address, "1.5")
    wait_until(lambda: any(step >= 2 for _, step in steps(tmp_path, 1)), 120)
    raylet = parent(steps(tmp_path, 1)[-1][0])
    node = [raylet, *children(raylet)]  # a raylet alone would leave its workers at work for a while
    for pid in node:
        os.kill(pid, signal.SIGKILL)
    notices = driver.notices()
    again = [text for text in notices if "with new processes" in text]
    assert len(again) == 1 and again[0].startswith("the training goes on from step "), notices
    assert_went_on(tmp_path)
    assert_as_on_this_machine(tmp_path)
