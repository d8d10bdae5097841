"""Seconds a round on a frozen encoder: 100,000 images of 512 and of 1,280 features, a linear head or a small MLP, one thread.

The images are noise with a class in it and the encoder is a random projection, so that everything but the encoder is as in a real
run: features mapped from the disk, training, measuring, selecting, testing on 10,000, and all that is kept. Process CPU seconds
of whole rounds, and beside them the wall time of their phases, which lies on a shared machine. The settings are those of
`mcdal run --encoder`; the products of a head are too small to share out, so a second core does other work. Strategies whose
time is that of choosing 1,000 among 100,000 rows (k-means, covers, determinants) are not measured here.

Seconds depend on the machine, so there are ratios too: Random's round to a bare loop of as many steps of a linear head on rows in
memory, each other strategy's to Random's, and each MLP's to the linear head's. Their bounds are about twice what was reached.

    OMP_NUM_THREADS=1 PYTHONPATH=.:benchmarks python benchmarks/frozen.py
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.side_by_side import RESULTS, Check, interleaved, record, show
from mcdal import Config, Plan, Pool, Protocol, Source, Strategy, run
from mcdal.encoders.base import Built, Encoder, randomly
from mcdal.events import Listener, nobody
from mcdal.models.probe import Probe
from mcdal.models.resnet import ResNet
from mcdal.pool.assemble import from_arrays
from mcdal.recipes.base import frozen
from mcdal.registry import load
from mcdal.store import Store

SECONDS = 5.0
"""What a round may take."""
POOL, TEST, CLASSES = 100_000, 10_000, 10
START, BUDGET = 1000, 1000
FEATURES = 512, 1280
HIDDEN = 256
"""Units of the MLP's hidden layer."""
QUICK = ("random", "margin", "mcdal")
OTHERS = ("entropy", "mc_dropout", "ensemble")
OVER_BARE = 8.0
OVER_RANDOM = {"margin": 3.5, "mcdal": 8.5, "entropy": 3.5, "mc_dropout": 7.5, "ensemble": 10.0}
MLP_OVER_LINEAR = 4.0
"""What a round may be of a bare loop, of Random's round, and of that with a linear head."""


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


@dataclass(frozen=True)
class Round:
    """seconds: median CPU seconds of a round after the start. phases: wall seconds of its parts."""

    seconds: float
    phases: dict[str, float]


def plan_of(features: int, hidden: int, strategy: Strategy, rounds: int) -> Plan:
    bare = Config(Noise(), ResNet(), strategy, protocol=Protocol(START, BUDGET, rounds))
    config = replace(frozen(replace(bare, gallery=24), Projection(features)), model=Probe(hidden))
    recipe = f"noise{features}" + f"mlp{hidden}" * bool(hidden)
    return Plan(config, recipe=recipe, strategy=type(strategy).__name__)


def a_round(features: int, hidden: int, strategy: Strategy, rounds: int, work: Path) -> Round:
    plan = plan_of(features, hidden, strategy, rounds)
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
    return Round(statistics.median(whole), phases)


def bare_loop(features: int) -> float:
    """CPU seconds of as many steps of a linear head as a round has, on rows in memory: float32, SGD, nothing else."""
    training = plan_of(features, 0, load("strategies", "random")(), 1).config.training
    torch.manual_seed(0)
    x, y = torch.randn(2 * BUDGET, features), torch.randint(CLASSES, (2 * BUDGET,))
    head = nn.Linear(features, CLASSES)
    optimizer = training.optimization.optimizer(head.parameters())

    def steps() -> None:
        for _ in range(training.steps):
            some = torch.randint(len(x), (training.batch_size,))
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(F.cross_entropy(head(x[some]), y[some]))
            optimizer.step()

    return statistics.median(interleaved({"bare": steps}, 5)["bare"])


def checks(quick: bool) -> list[Check]:
    """quick: Random, Margin and MCDAL alone, which the bound is for, and MCDAL with the MLP on the fewer features."""
    return [check for check, _ in measured(QUICK, ("mcdal",) if quick else QUICK, () if quick else OTHERS)]


def measured(
    linear: Iterable[str], mlp: Iterable[str], others: Iterable[str] = (), rounds: int = 3
) -> list[tuple[Check, dict[str, Any]]]:
    """Rounds with a linear head, and with an MLP (of one strategy: on the fewer features), and what they are to each other."""
    torch.set_num_threads(1)
    linear, mlp, others = tuple(linear), tuple(mlp), tuple(others)
    found: list[tuple[Check, dict[str, Any]]] = []
    with tempfile.TemporaryDirectory() as folder:
        for features in FEATURES:
            seconds: dict[tuple[str, int], float] = {}
            wide = mlp if len(mlp) > 1 or features == FEATURES[0] else ()
            for name, hidden in [*((n, 0) for n in linear + others), *((n, HIDDEN) for n in wide)]:
                made = a_round(features, hidden, load("strategies", name)(), rounds, Path(folder))
                seconds[name, hidden] = made.seconds
                row = {"strategy": name, "features": features, "hidden": hidden, "round": made.seconds, **made.phases}
                found.append((in_seconds(made, name, hidden, features, name in QUICK), row))
                show([found[-1][0]])
            told = list(ratios(seconds, bare_loop(features), features))
            show(told)
            found += [(check, {}) for check in told]
    return found


def in_seconds(made: Round, name: str, hidden: int, features: int, bounded: bool) -> Check:
    told = "wall: " + ", ".join(f"{phase} {value:.2f}" for phase, value in made.phases.items())
    return Check(
        f"a round of {with_head(name, hidden)}, {POOL:,} x {features}", made.seconds, SECONDS if bounded else None, "at most",
        unit="CPU s", detail=told,
    )  # fmt: skip


def with_head(name: str, hidden: int) -> str:
    return f"{name}, MLP of {hidden}" if hidden else name


def ratios(seconds: dict[tuple[str, int], float], bare: float, features: int) -> Iterator[Check]:
    """Of rounds by strategy and hidden units to what they are built on."""
    on, random = f", {POOL:,} x {features}", seconds["random", 0]
    yield Check(f"a round of random / bare steps{on}", random / bare, OVER_BARE, "at most", detail=f"bare {bare:.3g} s")
    for (name, hidden), taken in seconds.items():
        if hidden:
            value = taken / seconds[name, 0]
            yield Check(f"a round of {with_head(name, hidden)} / linear{on}", value, MLP_OVER_LINEAR, "at most")
        elif name != "random":
            yield Check(f"a round of {name} / of random{on}", taken / random, OVER_RANDOM[name], "at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="Random, Margin and MCDAL, few rounds")
    parser.add_argument("--out", type=Path, default=RESULTS / "frozen.json")
    given = parser.parse_args()
    if given.quick:
        checks(quick=True)
        return
    found = measured(QUICK, QUICK, OTHERS)
    training = plan_of(FEATURES[0], 0, load("strategies", "random")(), 1).config.training
    record(
        given.out, "seconds a round on a frozen encoder, 100,000 images", "benchmarks/frozen.py", [c for c, _ in found],
        threads=1, steps=training.steps, batch_size=training.batch_size, labels=[START, BUDGET],
        rounds=[{k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()} for _, row in found if row],
    )  # fmt: skip


if __name__ == "__main__":
    main()
