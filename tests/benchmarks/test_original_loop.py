"""The measurement against the original loop runs, within its time."""

import json
import sys

import pytest

from benchmarks import original_loop
from mcdal.models.resnet import ResNet

pytest.importorskip("torchvision")


@pytest.fixture
def given():
    return original_loop.given_for(original_loop.noise(64), "cpu", 2, 0, ResNet(10, 1), 48)


def test_both_loops(given):
    heard = []
    original_loop.measured(given, 2, 10, lambda speed: heard.append(original_loop.compared(speed, "cpu")))
    assert len(heard) == 2
    assert heard[-1].value > 0 and heard[-1].bound is None and heard[-1].holds


def test_no_turn_after_the_minutes(given):
    heard = []
    original_loop.measured(given, 5, 0, lambda speed: heard.append(len(speed["ours"])))
    assert heard == [1] or heard == []


def test_on_a_gpu_it_is_judged():
    assert original_loop.compared({"ours": [300.0], "original": [100.0]}, "cuda").holds is False
    assert original_loop.compared({"ours": [500.0], "original": [100.0]}, "cuda").holds


def test_the_quick_one_is_judged_on_a_cpu(no_collecting):
    found = original_loop.small_check(ResNet(10, 1), 1, 1)
    assert found.value > 0 and found.bound == original_loop.SMALL_ON_CPU


def test_a_result_of_a_cpu(monkeypatch, tmp_path):
    monkeypatch.setattr(original_loop, "RESULTS", tmp_path)
    words = "--device cpu --noise 64 --labeled 48 --steps 1 --workers 0 --repetitions 1 --depth 10 --width 1"
    monkeypatch.setattr(sys, "argv", ["original_loop.py", *words.split()])
    original_loop.main()
    result = json.loads((tmp_path / "original_loop_cpu.json").read_text())
    assert result["title"].endswith("on a CPU") and len(result["images_per_second"]["ours"]) == 1
