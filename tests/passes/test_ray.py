"""A real cluster of two nodes on this machine, whose node, worker and driver are really killed."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from mcdal.device import Numerics
from mcdal.errors import ConfigError, StoreError
from mcdal.measuring import measure
from mcdal.passes import OnRay, measure_shards, pick, rows_of
from mcdal.ray_cluster import room
from mcdal.strategies.margin import Margin
from mcdal.testing import NUMERICS
from tests.passes.driver import model
from tests.passes.sharded import forty, opened, wait_until, watched

ON_RAY = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]  # Ray warns of what it does itself


@pytest.fixture
def cluster():
    """Two nodes of one CPU each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20})
    found.add_node(num_cpus=1, object_store_memory=100 << 20)
    found.wait_for_nodes()
    yield found
    import ray

    ray.shutdown()
    found.shutdown()


def start(folder, address, seconds):
    command = [sys.executable, "-m", "tests.passes.driver", str(folder), "ray", address, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def events(process):
    said = process.communicate(timeout=150)[0]
    assert process.returncode == 0, said
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def again(folder):
    """What the plain path makes of what is there."""
    return measure_shards(model(), watched(folder), Margin(), folder / "pass", numerics=NUMERICS)


def assert_whole(folder, tmp_path_factory):
    """All rows, none twice, and the scores and picks of the plain path."""
    measured = again(folder)
    assert measured.resumed == 8
    rows, whole = rows_of(measured, {}), measure(model(), forty(), {}, Margin(), numerics=NUMERICS)
    assert rows.ids == whole.ids and len(set(rows.ids)) == 40
    np.testing.assert_allclose(rows.score, whole.score, rtol=1e-9)
    plain = measure_shards(
        model(), watched(tmp_path_factory.mktemp("plain")), Margin(), tmp_path_factory.mktemp("plain") / "pass",
        numerics=NUMERICS,
    )  # fmt: skip
    assert pick(Margin(), measured, 9, {}).ids == pick(Margin(), plain, 9, {}).ids


def pids(folder):
    return {pid for _, pid in opened(folder)}


def raylet_of(node):
    return node.all_processes["raylet"][0].process.pid


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return int(file.read().rsplit(")", 1)[1].split()[1])


class TestOnTwoNodes:
    pytestmark = ON_RAY

    def test_a_worker_is_killed(self, cluster, tmp_path, tmp_path_factory):
        process = start(tmp_path, cluster.address, 0.5)
        wait_until(lambda: len(pids(tmp_path)) >= 2, 120)
        name, victim = opened(tmp_path)[-1]
        os.kill(victim, signal.SIGKILL)
        said = events(process)
        assert any(f"the shard {name} is measured again" in event.get("text", "") for event in said)
        assert said[-1] == {"kind": "end", "rows": 40, "resumed": 0}
        times = Counter(name for name, _ in opened(tmp_path))
        assert len(times) == 8 and times.total() == 9 and times[name] == 2
        assert_whole(tmp_path, tmp_path_factory)

    def test_a_node_is_killed(self, cluster, tmp_path, tmp_path_factory):
        process = start(tmp_path, cluster.address, 0.5)
        other = raylet_of(cluster.worker_nodes.copy().pop())
        wait_until(lambda: any(parent_of(pid) == other for pid in pids(tmp_path) if Path(f"/proc/{pid}").exists()), 120)
        os.kill(other, signal.SIGKILL)
        said = events(process)
        assert said[-1] == {"kind": "end", "rows": 40, "resumed": 0}
        times = Counter(name for name, _ in opened(tmp_path))
        assert (
            len(times) == 8 and times.total() <= 10
        )  # beside the shards that the node had in hand nothing is repeated
        assert_whole(tmp_path, tmp_path_factory)

    def test_no_half_file_of_a_worker_that_is_killed_while_it_writes_stays(self, cluster, tmp_path, tmp_path_factory):
        measured = measure_shards(
            model(), watched(tmp_path, torn="part-3"), Margin(), tmp_path / "pass", numerics=NUMERICS,
            engine=OnRay(address=cluster.address, cpus=0.5),
        )  # fmt: skip
        assert len(measured) == 40
        assert Counter(name for name, _ in opened(tmp_path))["part-3"] == 2
        assert not list((tmp_path / "pass").glob("*.part"))
        assert_whole(tmp_path, tmp_path_factory)

    def test_the_driver_is_killed(self, cluster, tmp_path, tmp_path_factory):
        process = start(tmp_path, cluster.address, 0.5)
        wait_until(lambda: len(list((tmp_path / "pass").glob("*.parquet"))) >= 3, 120)
        process.kill()
        process.communicate()
        kept = {path.stem for path in (tmp_path / "pass").glob("*.parquet")}
        said = events(start(tmp_path, cluster.address, 0.0))
        assert said[-1]["rows"] == 40 and said[-1]["resumed"] >= len(kept) >= 3
        times = Counter(name for name, _ in opened(tmp_path))
        assert len(times) == 8 and times.total() <= 8 + 2
        assert_whole(tmp_path, tmp_path_factory)

    def test_ctrl_c_ends_the_actors_and_leaves_whole_files(self, cluster, tmp_path, tmp_path_factory):
        process = start(tmp_path, cluster.address, 0.5)
        wait_until(lambda: len(list((tmp_path / "pass").glob("*.parquet"))) >= 2, 120)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode != 0
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids(tmp_path)), 20)
        assert list((tmp_path / "pass").glob("*.part")) == []
        assert again(tmp_path).resumed >= 2
        assert_whole(tmp_path, tmp_path_factory)

    def test_results_come_back_where_the_folder_is_not_shared(self, cluster, tmp_path, tmp_path_factory):
        measured = measure_shards(
            model(), watched(tmp_path), Margin(), tmp_path / "pass", numerics=NUMERICS,
            engine=OnRay(address=cluster.address, cpus=0.5, shared=False),
        )  # fmt: skip
        assert len(measured) == 40
        assert_whole(tmp_path, tmp_path_factory)

    def test_what_the_cluster_cannot_hold_is_told_at_once(self, cluster, tmp_path):
        for asks, told in (
            ({"gpus": 1.0}, "cannot hold one actor: it asks for 1 CPUs and 1 GPUs"),
            ({"cpus": 2.0}, "cannot hold one actor: it asks for 2 CPUs beside one CPU"),
        ):
            engine = OnRay(address=cluster.address, **asks)
            with pytest.raises(ConfigError, match=told):
                measure_shards(
                    model(), watched(tmp_path), Margin(), tmp_path / "pass", numerics=NUMERICS, engine=engine
                )

    def test_why_no_actor_could_begin_is_told(self, cluster, tmp_path):
        cuda = Numerics(torch.device("cuda"), "float32", False, False)
        with pytest.raises(StoreError, match=r"(?s)actors end before they measure .* has none that CUDA can use"):
            measure_shards(
                model(), watched(tmp_path), Margin(), tmp_path / "pass", numerics=cuda,
                engine=OnRay(address=cluster.address, workers=1, cpus=0.5, gpus=0.0),
            )  # fmt: skip

    def test_a_shard_brings_what_actors_do_not_reach_and_one_that_hangs_is_given_to_another(self, cluster, tmp_path):
        heard = []
        measured = measure_shards(
            model(), watched(tmp_path, near=False, hanging="part-3"), Margin(), tmp_path / "pass", numerics=NUMERICS,
            engine=OnRay(address=cluster.address, cpus=0.5, longest=4.0),
            listen=lambda kind, **fields: heard.append(fields.get("text", "")),
        )  # fmt: skip
        assert len(measured) == 40
        assert any("part-3 is measured again" in text and "has been at it for" in text for text in heard)

    def test_a_cluster_that_others_have_taken_is_told(self, cluster, tmp_path):
        import ray

        ray.init(address=cluster.address, log_to_driver=False)
        taking = [ray.remote(num_cpus=1)(Taking).remote() for _ in range(2)]
        ray.get([each.here.remote() for each in taking])
        engine = OnRay(patience=3.0)
        with pytest.raises(StoreError, match="no actor could start on the Ray cluster for 3 s"):
            measure_shards(model(), watched(tmp_path), Margin(), tmp_path / "pass", numerics=NUMERICS, engine=engine)


@pytest.mark.ray
def test_ray_understands_the_cluster_file():
    pytest.importorskip("ray")
    import yaml
    from ray.autoscaler._private.util import prepare_config, validate_config

    file = Path(__file__).parents[2] / "docs" / "ray-cluster.yaml"
    config = prepare_config(yaml.safe_load(file.read_text()))
    validate_config(config)
    assert config["head_node_type"] in config["available_node_types"]


class Taking:
    def here(self):
        return True


def test_one_cpu_stays_free():
    def node(alive=True, **resources):
        return {"Alive": alive, "Resources": resources}

    assert room([node(CPU=8.0)], 1.0, 0.0, kept_free=1.0).workers == 7
    assert room([node(CPU=4.0), node(CPU=4.0), node(alive=False, CPU=64.0)], 2.0, 0.0, kept_free=1.0).workers == 3
    assert room([node(CPU=8.0, GPU=4.0), node(CPU=8.0)], 1.0, 1.0, kept_free=1.0).workers == 4
    assert room([node(CPU=3.0), node(CPU=3.0)], 2.0, 0.0, kept_free=1.0).workers == 2
    assert room([node(CPU=1.0)], 1.0, 0.0, kept_free=1.0).workers == 0
    assert room([node(CPU=1.0)], 1.0, 0.0).workers == 1
    assert room([], 1.0, 0.0).nodes == "it has no node"


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ConfigError, match="say how many with workers"):
        OnRay(autoscaling=True)
    with pytest.raises(ConfigError, match="workers = 0"):
        OnRay(workers=0)
