"""A run whose ranks say what they do, slowly. Its folder is where the command is given."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from mcdal.config import Protocol
from mcdal.ranks import together
from mcdal.strategies.mcdal import MCDAL
from mcdal.testing import fake_config, fake_training


@dataclass
class Watched(MCDAL):
    folder: str = ""

    def step(self, labeled, unlabeled, progress):
        folder = Path(self.folder)
        with (folder / "log").open("a") as file:
            file.write(f"{together().rank} {os.getpid()} {progress.step}\n")
        time.sleep(float((folder / "seconds").read_text()))
        super().step(labeled, unlabeled, progress)


def slow():
    """Two rounds of 8 steps."""
    training = fake_training(precision="float64", processes=2)
    config = fake_config(Watched(folder=str(Path.cwd())), protocol=Protocol(12, 6, rounds=2))
    return replace(config, training=training, checkpoint_seconds=0.0)
