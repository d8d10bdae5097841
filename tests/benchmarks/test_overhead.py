"""The measurement of the data path runs, and measures what it says."""

import numpy as np
import pytest
import torch

from benchmarks import overhead
from mcdal.models.resnet import ResNet


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(overhead.NETWORKS, "tiny", (ResNet(10, 1), 2, 1))
    # For the process that measures; not for the one that runs all tests.
    monkeypatch.setattr(overhead, "keep_memory", lambda: None)


@pytest.mark.parametrize(
    "source", [pytest.param(s, marks=pytest.mark.slow) if s == "jpegs" else s for s in overhead.SOURCES]
)
def test_each_source(tiny, source):
    found, medians = overhead.measured("tiny", (source,), overhead.Images32(1_300), 1)
    names = [check.name.split(",")[0] for check in found]
    assert names[-1] == "a step over what feeds it"
    assert {"train over bare step", "measure over bare forward"} <= set(names)
    heads = {f"MCDAL's step {what}" for what in ("over Random's", "with 8 heads over 2", "as published over Random's")}
    assert heads & set(names) == (heads if source == "memory" else set())
    # In bare steps: whatever the machine does, a step of the engine takes some of one, and not tens.
    shares = [check.value for check in found if "over bare" in check.name]
    assert all(0.2 < share < 20 for share in shares)
    assert all(value > 0 for value in medians[source].values())


def test_a_bare_step_comes_after_each_of_the_engine(tiny):
    pool = overhead.Images32(300).source("memory", None, 128)
    sides = overhead.Sides(pool, ResNet(10, 1), steps=3, batches=1, skip=2)
    calls = []
    sides._bare_step = lambda: calls.append(1)
    turn = sides.train("random")
    assert len(turn.pairs) == len(calls) == 5  # two that do not count, and none after the last step of all
    turn.pairs = [(9.0, 1.0), (9.0, 1.0), (3.0, 2.0), (2.0, 1.0), (8.0, 1.0)]
    assert sides.share(turn) == 2.0


def test_sources_hold_the_same_images(tmp_path):
    images = overhead.Images32(60)
    pools = {name: images.source(name, tmp_path / name, 10) for name in overhead.SOURCES}
    assert {len(pool) for pool in pools.values()} == {40}
    # By class: a folder orders its images by class.
    for pool in pools.values():
        assert np.bincount(pool.targets).tolist() == [4] * 10
    batches = {name: _all(pool) for name, pool in pools.items()}
    assert torch.equal(*(batches[name].double().sort(0).values for name in ("parquet", "jpegs")))
    assert (batches["memory"].mean() - batches["jpegs"].mean()).abs() < 2


def _all(pool):
    return next(iter(pool.images.batches([np.arange(len(pool))], torch.device("cpu")))).float()
