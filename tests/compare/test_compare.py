"""A comparison as a whole: independent processes, failures that stay alone, and only what is missing the next time."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mcdal.environment import commit
from mcdal.store import Store
from tests.runs import content

RECIPE = r'''
from mcdal.testing import fake_config
from mcdal.strategies.random import Random
from mcdal.strategies.margin import Margin


def tiny():
    """A run of a second."""
    return fake_config(Random())


class Broken(Margin):
    """Fails when it is to measure."""

    def measure(self, batch):
        raise RuntimeError("it broke")


class Loud(Margin):
    """Prints what is no text and what is no event of ours, and leaves a process behind that holds its mouth open."""

    def measure(self, batch):
        import subprocess, sys
        sys.stdout.buffer.write(b'\xff\xfe\n{"event": "train"}\n{"event": 3}\n')
        sys.stdout.flush()
        if not hasattr(self, "_left"):
            self._left = subprocess.Popen(["sleep", "617.25"])
        return super().measure(batch)


class Slow(Margin):
    """Takes its time."""

    def measure(self, batch):
        import time
        time.sleep(0.5)
        return super().measure(batch)
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(RECIPE)
    return path


def compare(file, strategies, *more, out=None):
    out = out or file.parent / "out"
    words = ["compare", f"{file}:tiny", "--strategies", strategies, "--device", "cpu", "--out", str(out), *more]
    done = subprocess.run(
        [sys.executable, "-m", "mcdal", *words], capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return done, out


def test_a_cell_that_fails_leaves_the_others_alone_and_only_what_is_missing_is_played_again(file):
    done, out = compare(file, f"random,margin,{file}:Broken", "--seeds", "0-1")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert sum("RuntimeError: it broke" in line for line in lines) == 2
    assert sum(line.startswith("margin, seed") and "done" in line for line in lines) == 2
    assert lines[-1].startswith("Margin: No difference to Random")
    assert "2 of 6 runs failed; the same command tries them again" in done.stderr
    assert (out / "report" / "index.html").exists()
    before = content(out)

    done, _ = compare(file, "random,margin,mcdal", "--seeds", "0-2", "--json")
    assert done.returncode == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    begun = {(e["strategy"], e["seed"]) for e in events if e["event"] == "begin"}
    assert begun == {("mcdal", 0), ("mcdal", 1), ("mcdal", 2), ("random", 2), ("margin", 2)}
    assert all(e["state"] == "done" for e in events if e["event"] == "end")
    after = content(out)
    for table in ("queries", "metrics"):
        old = [row for row in before[table] if "Broken" not in row[0]]
        assert set(old) <= set(after[table]), "what was done is as it was"

    done, _ = compare(file, "random,core_set", "--seeds", "0-2", "--dry-run")
    assert done.stdout.splitlines() == ["random: 3 of 3 seeds done", "core_set: 0 of 3 seeds done, missing 0, 1, 2"]


def test_the_first_round_of_a_seed_is_trained_once(file):
    done, out = compare(file, "random,margin,entropy,core_set", "--seeds", "0", "--workers", "4")
    assert done.returncode == 0
    store = Store(out, create=False)
    starts = {run.run_id: store.rounds(run.run_id)[0].seconds["train"] for run in store.runs()}
    assert len(starts) == 4
    # The seconds are those of the one that trained. Nothing is lent in a checkout whose files nobody has committed.
    assert len(set(starts.values())) == (4 if commit().endswith("+") else 1)


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_ends_the_same(file):
    out, whole = file.parent / "killed", file.parent / "whole"
    words = [
        "compare", f"{file}:tiny", "--strategies", f"random,{file}:Slow", "--seeds", "0", "--device", "cpu", "--out", str(out),
    ]  # fmt: skip
    with subprocess.Popen([sys.executable, "-m", "mcdal", *words], stdout=subprocess.DEVNULL) as process:
        for _ in range(600):
            time.sleep(0.1)
            if list(out.glob("runs/*Slow*/round_001/rows.parquet")):
                break
        process.send_signal(signal.SIGKILL)
    # What it had begun hears that nobody listens and stops, or is done by then.
    for _ in range(200):
        time.sleep(0.1)
        done, _ = compare(file, f"random,{file}:Slow", "--seeds", "0", out=out)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stdout
    compare(file, f"random,{file}:Slow", "--seeds", "0", out=whole)
    for table in ("rounds", "queries", "labels", "metrics"):
        assert content(out)[table] == content(whole)[table]


@pytest.mark.slow
def test_a_process_that_prints_anything_and_leaves_others_behind_ends_all_the_same(file):
    begun = time.monotonic()
    done, _ = compare(file, f"random,{file}:Loud", "--seeds", "0", "--json")
    assert done.returncode == 0
    assert time.monotonic() - begun < 200, "not as long as what was left behind lives"
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["state"] for e in events if e["event"] == "end"] == ["done", "done"]
    assert [e["strategy"] for e in events if e["event"] == "shown"] == [f"{file}:Loud"]
    subprocess.run(["pkill", "-f", "sleep 617.25"], check=False)


def test_wrong_words_are_told_and_nothing_is_written(file):
    done, out = compare(file, "random,margins", "--seeds", "0")
    assert done.returncode == 2
    assert "did you mean 'margin'" in done.stderr
    done, out = compare(file, "random", "--seeds", "3-1")
    assert done.returncode == 2
    assert "write 0-4 or 0,2,5" in done.stderr
    assert not out.exists()
