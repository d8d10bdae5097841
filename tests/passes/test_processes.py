"""Real processes, really killed: no row is lost, none is measured twice but those of the shard in hand."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from mcdal.device import Numerics
from mcdal.errors import ConfigError, PoolError, StoreError
from mcdal.measuring import measure
from mcdal.passes import Processes, measure_shards, rows_of
from mcdal.strategies.margin import Margin
from mcdal.testing import NUMERICS
from tests.passes.driver import model
from tests.passes.sharded import forty, opened, wait_until, watched


def start(folder, workers, seconds):
    command = [sys.executable, "-m", "tests.passes.driver", str(folder), str(workers), "local", str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def events(process):
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    return [json.loads(line) for line in said.splitlines()]


def finish(folder, **more):
    heard = []
    measured = measure_shards(
        model(), watched(folder, **more), Margin(), folder / "pass", numerics=NUMERICS,
        listen=lambda kind, **fields: heard.append({"kind": kind, **fields}),
    )  # fmt: skip
    return measured, heard


def assert_whole(measured):
    """Each of the forty rows once, with the score of the plain pass."""
    rows, whole = rows_of(measured, {}), measure(model(), forty(), {}, Margin(), numerics=NUMERICS)
    assert rows.ids == whole.ids
    np.testing.assert_allclose(rows.score, whole.score, rtol=1e-9)


def command_of(pid):
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]


def workers_of(driver):
    """The slot of each, which decides on its accelerator, by process."""
    children = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
    return {int(pid): command[-1] for pid in children if (command := command_of(pid))}


def dead(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rsplit(")", 1)[1].split()[0] == "Z"


def test_a_worker_that_is_killed_and_a_driver_that_is_killed(tmp_path):
    """First a worker, whose shard another takes; then the driver, whose workers end; the next one goes on."""
    process = start(tmp_path, 2, 0.3)
    wait_until(lambda: len({pid for _, pid in opened(tmp_path)}) == 2)
    name, victim = opened(tmp_path)[-1]
    own = Path(command_of(victim)[-2]).parent
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in (now := workers_of(process.pid)) and sorted(now.values()) == ["0", "1"])
    wait_until(lambda: [n for n, _ in opened(tmp_path)].count(name) == 2)  # another has it in hand
    assert (own / "job").exists()
    process.kill()
    said = process.communicate()[0]
    assert f"the shard {name} is measured again: its process ended by signal 9" in said
    wait_until(lambda: all(dead(pid) for _, pid in opened(tmp_path)))
    assert not own.exists(), "the weights stay in the machine's folder for temporary files"
    before = Counter(name for name, _ in opened(tmp_path))
    kept = {path.stem for path in (tmp_path / "pass").glob("*.parquet")}
    assert 0 < len(kept) < 8
    measured, _ = finish(tmp_path)
    assert measured.resumed == len(kept)
    again = Counter(name for name, _ in opened(tmp_path)) - before
    assert set(again) == {f"part-{i}" for i in range(8)} - kept and set(again.values()) == {1}
    assert_whole(measured)
    assert list((tmp_path / "pass").glob("*.part")) == []


@pytest.mark.slow
def test_a_worker_that_hangs_is_ended_and_its_shard_given_to_another(tmp_path):
    heard = []
    measured = measure_shards(
        model(), watched(tmp_path, hanging="part-2"), Margin(), tmp_path / "pass", numerics=NUMERICS,
        engine=Processes(2, longest=2.0), listen=lambda kind, **fields: heard.append(fields.get("text", "")),
    )  # fmt: skip
    assert any(
        "part-2 is measured again: process" in text and "has made no progress with it for 2" in text for text in heard
    )
    assert_whole(measured)


@pytest.mark.slow
def test_no_half_file_of_a_worker_that_is_killed_while_it_writes_stays(tmp_path):
    halves = []
    measured = measure_shards(
        model(), watched(tmp_path, torn="part-3"), Margin(), tmp_path / "pass", numerics=NUMERICS, engine=Processes(2),
        listen=lambda kind, **fields: halves.extend((tmp_path / "pass").glob("*.part")),
    )  # fmt: skip
    assert halves and not list((tmp_path / "pass").glob("*.part"))
    assert Counter(name for name, _ in opened(tmp_path))["part-3"] == 2
    assert_whole(measured)


def test_a_machine_without_a_gpu_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cuda = Numerics(torch.device("cuda"), "float32", False, False)
    with pytest.raises(ConfigError, match="a worker's machine has none that CUDA can use"):
        measure_shards(model(), watched(tmp_path), Margin(), tmp_path / "pass", numerics=cuda, engine=Processes(2))


@pytest.mark.slow
def test_ctrl_c_ends_promptly_and_leaves_whole_files(tmp_path):
    process = start(tmp_path, 2, 0.3)
    wait_until(lambda: (tmp_path / "pass").exists() and len(list((tmp_path / "pass").glob("*.parquet"))) >= 2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=5)
    assert process.returncode != 0
    assert all(dead(pid) for _, pid in opened(tmp_path))
    assert list((tmp_path / "pass").glob("*.part")) == []
    measured, heard = finish(tmp_path)
    assert measured.resumed >= 2 and heard[0]["text"].endswith("were measured before")
    assert not any("again" in event.get("text", "") for event in heard)
    assert_whole(measured)


@pytest.mark.slow
def test_both_are_killed_again_and_again(tmp_path):
    for _ in range(4):
        process = start(tmp_path, 2, 0.2)
        count = len(opened(tmp_path))
        wait_until(lambda now=count, end=process.poll: len(opened(tmp_path)) > now + 1 or end() is not None)
        for pid in {pid for _, pid in opened(tmp_path)[count:]}:
            os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()
    measured, _ = finish(tmp_path)
    assert_whole(measured)


@pytest.mark.slow
def test_a_shard_that_kills_its_readers_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"the shard 'part-3' failed 3 times, .*signal 9 \(out of memory\?"):
        measure_shards(
            model(), watched(tmp_path, deadly="part-3"), Margin(), tmp_path / "pass", numerics=NUMERICS, workers=2
        )
    assert [name for name, _ in opened(tmp_path)].count("part-3") == 3
    assert finish(tmp_path)[0].resumed == 7


@pytest.mark.slow
def test_what_a_worker_says_for_a_person_stops_the_pass_at_once(tmp_path):
    from dataclasses import replace

    sharded = watched(tmp_path, failing="part-2")
    with pytest.raises(StoreError, match="'part-2' failed 3 times, the last time: OSError: the network is down"):
        measure_shards(model(), sharded, Margin(), tmp_path / "a", numerics=NUMERICS, workers=2)

    class Long(type(sharded)):  # of no module that a worker could import: it travels by value
        def pool(self, shard):
            return super().pool(replace(shard, size=4) if shard.name == "part-2" else shard)

    with pytest.raises(PoolError, match=re.escape("'part-2' holds 4 samples")):
        measure_shards(model(), Long(**vars(watched(tmp_path))), Margin(), tmp_path / "b", numerics=NUMERICS, workers=2)
