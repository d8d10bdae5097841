"""What a worker makes of its job: its accelerator, its shard, and how long it may be silent."""

from dataclasses import replace

import pytest
import torch

from mcdal.device import Numerics
from mcdal.errors import ConfigError
from mcdal.passes.tags import common_tags
from mcdal.passes.travel import pack_any
from mcdal.passes.watch import SECONDS_OF_SILENCE, Watch
from mcdal.passes.work import Job, Worker, on_own_device
from mcdal.strategies.margin import Margin
from mcdal.testing import NUMERICS
from tests.passes.driver import model
from tests.passes.sharded import watched

CUDA = Numerics(torch.device("cuda"), "float32", False, False)


@pytest.mark.parametrize("first, found", [("cuda", [0, 1, 2, 3, 0]), ("cuda:2", [2, 3, 0, 1, 2])])
def test_accelerators_are_given_out_from_that_of_the_pass_on(first, found, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    numerics = replace(CUDA, device=torch.device(first))
    assert [on_own_device(numerics, slot).device.index for slot in range(5)] == found
    assert on_own_device(NUMERICS, 3) == NUMERICS


def test_no_accelerator_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="has none that CUDA can use"):
        on_own_device(CUDA, 0)


def test_a_shard_is_opened_by_what_was_brought_where_that_is_needed(tmp_path):
    far = watched(tmp_path, near=False)
    common = common_tags(model(), Margin(), NUMERICS, 0, None, "float32", {})
    worker = Worker(Job(model(), Margin(), far, common, NUMERICS, 8, 0, None, "float32"))
    one, two = far.shards[:2]
    with pytest.raises(AssertionError):
        worker.measure(one)
    assert list(worker.measure(one, carried=pack_any(far.carrying([one])))) == ["part-0.parquet"]
    near = Worker(Job(model(), Margin(), replace(far, near=True), common, NUMERICS, 8, 0, None, "float32"))
    assert list(near.measure(two, carried=b"not looked at")) == ["part-1.parquet"]


def test_silence_is_told_once_and_ended_where_that_is_asked_for():
    now = [0.0]
    watch = Watch(longest=1000.0, now=lambda: now[0])
    watch.heard("process 1")
    now[0] = SECONDS_OF_SILENCE - 1
    assert watch.of("process 1", "the shard a", "is at") == ("", "")
    now[0] = SECONDS_OF_SILENCE
    assert watch.of("process 1", "the shard a", "is at")[0].startswith(
        "process 1 is at the shard a for 5 minutes: it may"
    )
    assert watch.of("process 1", "the shard a", "is at") == ("", "")
    now[0] = 1000.0
    assert watch.of("process 1", "the shard a", "is at") == ("", "process 1 is at it for 1000 s")
    watch.heard("process 1")
    assert watch.of("process 1", "the shard a", "is at") == ("", "")
    never = Watch(longest=None, now=lambda: now[0])
    never.heard("process 1")
    now[0] = 10**6
    assert never.of("process 1", "the shard a", "is at")[1] == ""
