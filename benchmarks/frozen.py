"""Seconds a round on a frozen encoder: 100,000 images of 512 and of 1,280 features and a linear head, one thread.

The images are noise with a class in it and the encoder is a random projection, so that everything but the encoder is as in a real
run: features mapped from the disk, training, measuring, selecting, testing on 10,000, and all that is kept. Process CPU seconds
of whole rounds, and beside them the wall time of their phases, which lies on a shared machine. The settings are those of
`mcdal run --encoder`; the products of a head are too small to share out, so a second core does other work. Strategies whose
time is that of choosing 1,000 among 100,000 rows (k-means, covers, determinants) are not measured here.

    OMP_NUM_THREADS=1 PYTHONPATH=.:benchmarks python benchmarks/frozen.py
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.side_by_side import RESULTS, Check, record, show
from mcdal import Config, Plan, Pool, Protocol, Source, Strategy, run
from mcdal.encoders.base import Built, Encoder, randomly
from mcdal.events import Listener, nobody
from mcdal.models.resnet import ResNet
from mcdal.pool.assemble import from_arrays
from mcdal.recipes.base import frozen
from mcdal.registry import load
from mcdal.store import Store

SECONDS = 5.0
"""What a round may take."""
POOL, TEST, CLASSES = 100_000, 10_000, 10
START, BUDGET = 1000, 1000
QUICK = ("random", "margin", "mcdal")
OTHERS = ("entropy", "mc_dropout", "ensemble")


@dataclass(frozen=True)
class Noise(Source):
    """Images of 8x8x3: noise, and a pattern of their class."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        random = np.random.default_rng(0)
        patterns = random.integers(0, 60, (CLASSES, 8, 8, 3))
        parts = []
        for name, n in (("train", POOL), ("test", TEST)):
            y = random.integers(0, CLASSES, n)
            pixels = (random.integers(0, 190, (n, 8, 8, 3), dtype=np.uint8) + patterns[y]).astype(np.uint8)
            parts.append((tuple(f"{name}/{i:06d}" for i in range(n)), pixels, y))
        return from_arrays("noise", [str(c) for c in range(CLASSES)], *parts)


@dataclass(frozen=True)
class Projection(Encoder):
    """Random features of pixels."""

    features: int = 512
    """How many."""

    def build(self) -> Built:
        network = randomly(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, self.features), nn.ReLU()))
        return Built(network, (8, 8))


def seconds_a_round(features: int, strategy: Strategy, rounds: int, work: Path) -> tuple[float, dict[str, float]]:
    """Median CPU seconds of a round after the start, and wall seconds of its phases."""
    bare = Config(Noise(), ResNet(), strategy, protocol=Protocol(START, BUDGET, rounds))
    name = type(strategy).__name__
    plan = Plan(frozen(replace(bare, gallery=24), Projection(features)), recipe=f"noise{features}", strategy=name)
    begun: list[float] = []

    def listen(kind: str, **_: object) -> None:
        if kind in ("round", "result"):
            begun.append(time.process_time())

    run(plan, work, device="cpu", listen=listen)
    store = Store(work, create=False)
    kept = store.rounds(plan.run_id)[1:]
    store.close()
    whole = [end - start for start, end in zip(begun[2::2], begun[3::2], strict=True)]
    phases = {phase: statistics.median(r.seconds.get(phase, 0.0) for r in kept) for phase in kept[0].seconds}
    return statistics.median(whole), phases


def checks(quick: bool) -> list[Check]:
    """quick: Random, Margin and MCDAL alone, which the bound is for."""
    return [check for check, _ in measured(QUICK if quick else QUICK + OTHERS)]


def measured(strategies: Iterable[str], rounds: int = 3) -> list[tuple[Check, dict[str, Any]]]:
    found = []
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for features in (512, 1280):
            for name in strategies:
                seconds, phases = seconds_a_round(features, load("strategies", name)(), rounds, Path(folder))
                bound = SECONDS if name in QUICK else None
                told = "wall: " + ", ".join(f"{phase} {value:.2f}" for phase, value in phases.items())
                what = f"a round of {name}, {POOL:,} x {features}"
                row = {"strategy": name, "features": features, "round": seconds, **phases}
                found.append((Check(what, seconds, bound, "at most", unit="CPU s", detail=told), row))
                show([found[-1][0]])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="Random, Margin and MCDAL, few rounds")
    parser.add_argument("--out", type=Path, default=RESULTS / "frozen.json")
    given = parser.parse_args()
    if given.quick:
        checks(quick=True)
        return
    found = measured(QUICK + OTHERS)
    training = frozen(Config(Noise(), ResNet(), load("strategies", "random")()), Projection()).training
    record(
        given.out, "seconds a round on a frozen encoder, 100,000 images", "benchmarks/frozen.py", [c for c, _ in found],
        threads=1, steps=training.steps, batch_size=training.batch_size, labels=[START, BUDGET],
        rounds=[{k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()} for _, row in found],
    )  # fmt: skip


if __name__ == "__main__":
    main()
