"""Profiles run for all that they are asked for, and name what takes the time."""

import json
import sys
import time

import pytest

from benchmarks import profiles

SMALL = "--rows 60 --labeled 20 --features 8 --budget 3 --steps 1 --width 1"


def spin():
    end = time.perf_counter() + 0.05
    while time.perf_counter() < end:
        pass


def test_what_takes_the_time_comes_first():
    first = profiles.by_function(spin)[0]
    assert first.name == "tests/benchmarks/test_profiles.py: spin" or "perf_counter" in first.name
    assert sum(entry.share for entry in profiles.by_function(spin)) == pytest.approx(1)


@pytest.mark.parametrize(
    "words", ["train", "measure --strategy margin", "select --strategy falcun", "select --strategy max_herding --torch"]
)
def test_each_is_told_and_kept(words, monkeypatch, tmp_path, capsys):
    out = tmp_path / "profile.json"
    monkeypatch.setattr(sys, "argv", ["profiles.py", *words.split(), *SMALL.split(), "--out", str(out)])
    profiles.main()
    kept = json.loads(out.read_text())
    assert kept["command"].startswith(f"python -m benchmarks.profiles {words}") and kept["environment"]["commit"]
    assert 0 < len(kept["entries"]) <= 10 and kept["entries"][0]["name"] in capsys.readouterr().out
    shares = [entry["share"] for entry in kept["entries"]]
    assert shares == sorted(shares, reverse=True) and sum(shares) <= 1 + 1e-9
