"""kill -9 at random moments, real processes: the run ends with the same picks, labels and metrics."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from mcdal import address
from mcdal.status import status
from mcdal.store import Store
from tests.runs import content

RECIPE = """
from dataclasses import replace
from mcdal.strategies.mcdal import MCDAL
from mcdal.testing import fake_config, fake_training

def slow():
    \"\"\"Long enough to be killed anywhere; its state is kept every few steps.\"\"\"
    training = fake_training(precision="float64", epochs=EPOCHS, steps_per_epoch=20)
    return replace(fake_config(MCDAL()), training=training, checkpoint_seconds=0.05)
"""


def command(recipe, out):
    return [sys.executable, "-m", "mcdal", "run", f"{recipe}:slow", "--device", "cpu", "--out", str(out), "--json"]


def play_with_kills(recipe, out, kills, seed):
    """Starts the same command again and again, each process killed somewhere in its work; gives how often it was killed."""
    moments, done = random.Random(seed), 0
    while True:
        process = subprocess.Popen(command(recipe, out), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        if done < kills:
            process.stdout.readline()  # the run has begun: from here on it is at work
            time.sleep(moments.uniform(0.0, 0.7))
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                done += 1
        said = process.communicate()[0]
        if process.returncode == 0:
            return done
        assert process.returncode == -signal.SIGKILL, said


@pytest.mark.parametrize("kills", [4, pytest.param(25, marks=pytest.mark.slow)])
def test_killed_and_continued_is_the_same_run(tmp_path, kills):
    recipe = tmp_path / "recipes.py"
    # The more kills, the longer the run, so that every one of them meets a process at work.
    recipe.write_text(RECIPE.replace("EPOCHS", str(10 + 5 * kills)))
    for name in ("whole", "killed"):
        if address.default_url(tmp_path / name) is not None:  # the processes know of a server by the folder alone
            Store(tmp_path / name).close()
    subprocess.run(command(recipe, tmp_path / "whole"), check=True, capture_output=True)
    killed = play_with_kills(recipe, tmp_path / "killed", kills, seed=kills)
    assert killed == kills
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    (end,) = status(tmp_path / "killed")
    assert end.state == "done" and end.sessions > kills // 2  # some died before they had said that they were there
    left = [path.name for path in (tmp_path / "killed").rglob("*.part")]
    assert left == []
    print(f"killed {killed} times, {end.sessions} sessions, 0 differences")  # noqa: T201
