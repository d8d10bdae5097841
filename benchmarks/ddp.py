"""Two processes that train together on a CPU, against one process with one thread and with two.

The same images, steps and batch on every side; sides take turns, and a first turn does not count. Wall time of the steps, in
which processes wait for each other: on a machine that others share, as the committed result's, that is mostly waiting for a
processor. So the CPU time of rank 0 is told beside it, which has half of the work: one thread's over it is how many times as fast
two processes would be if each had a core and never waited. The CPU time is that of a whole training, its beginning included.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/ddp.py
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from benchmarks.side_by_side import RESULTS, Check, Seconds, check, record
from mcdal.device import Numerics
from mcdal.models.base import Model
from mcdal.models.resnet import ResNet
from mcdal.pool.assemble import from_arrays
from mcdal.pool.base import Pool
from mcdal.processes import Processes
from mcdal.registry import load
from mcdal.testing import FakeModel
from mcdal.training import Training, train

NUMERICS = Numerics(torch.device("cpu"), "float32", channels_last=True, compile=False)
BATCH = 128
CPU = ", CPU"


def pool_of(n: int = 2000) -> Pool:
    """Noise: what images show changes no timing."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    ids = tuple(f"{i:05d}" for i in range(n))
    parts = [(ids[part], pixels[part], np.arange(n)[part] % 10) for part in (slice(100, None), slice(100))]
    return from_arrays("memory", [str(c) for c in range(10)], parts[0], parts[1])


def seconds_a_step(
    pool: Pool, strategy: str, network: Callable[[], Model], steps: int, threads: int, processes: Processes | None
) -> tuple[float, float]:
    """Wall seconds, and CPU seconds of this process. threads: of all processes together."""
    labels = {id: pool.truth()[id] for id in sorted(pool.images.ids)[:500]}
    training = Training(epochs=1, steps_per_epoch=steps, batch_size=BATCH, unlabeled_batch_size=BATCH)
    training = replace(training, processes=1 if processes is None else processes.count)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    try:
        model, own, begun = network(), load("strategies", strategy)(), time.process_time()
        took = train(model, pool, labels, own, training, numerics=NUMERICS, processes=processes).seconds
        return took / steps, (time.process_time() - begun) / steps
    finally:
        torch.set_num_threads(before)


def measured(
    pool: Pool, strategy: str, network: Callable[[], Model], steps: int, repetitions: int, two: Processes
) -> Seconds:
    """Seconds a step of each side, wall and CPU."""
    sides: Mapping[str, tuple[int, Processes | None]] = {
        "one thread": (1, None), "two threads": (2, None), "two processes": (2, two),
    }  # fmt: skip
    seconds: Seconds = {f"{name}{of}": [] for name in sides for of in ("", CPU)}
    for repetition in range(1 + repetitions):
        for name, (threads, processes) in sides.items():
            wall, cpu = seconds_a_step(pool, strategy, network, steps, threads, processes)
            if repetition:
                seconds[name].append(wall)
                seconds[f"{name}{CPU}"].append(cpu)
    return seconds


def told(name: str, seconds: Seconds) -> list[Check]:
    """How many times as fast two processes are."""
    rows = []
    for other in ("one thread", "two threads"):
        rows.append(
            check(f"{name}: two processes over one with {other}", seconds, other, "two processes", "at least", None)
        )
        best = {side: min(taken) for side, taken in seconds.items()}
        detail = ", ".join(f"{side} {1 / best[side]:.3g} steps a second" for side in ("two processes", other))
        value = best[other] / best["two processes"]
        rows.append(Check(f"{name}: the same, fastest turns", value, None, "at least", detail=detail))
    title = f"{name}: CPU time of one process over that of rank 0 of two"
    return [*rows, check(title, seconds, f"one thread{CPU}", f"two processes{CPU}", "at least", None)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--out", default=str(RESULTS / "ddp.json"))
    given = parser.parse_args()
    pool, checks, kept = pool_of(), list[Check](), {}

    def resnet() -> Model:
        return ResNet(10, 16).build(10, 3, (32, 32))

    def next_to_nothing() -> Model:
        return FakeModel(10, width=2)

    with Processes(2) as two:
        for strategy in ("random", "mcdal"):
            seconds = measured(pool, strategy, resnet, given.steps, given.repetitions, two)
            checks += told(f"ResNet-10 of width 16, {strategy}", seconds)
            kept[strategy] = seconds
        small = measured(pool, "random", next_to_nothing, 4 * given.steps, given.repetitions, two)
    kept["next to nothing"] = small
    for of in ("", CPU):
        cost = statistics.median(small[f"two processes{of}"]) - statistics.median(small[f"one thread{of}"]) / 2
        name = f"messages of a step and waiting, next to no network{of}"
        checks.append(Check(name, 1000 * cost, None, "at most", unit="ms"))
    command = f"OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/ddp.py --steps {given.steps} --repetitions {given.repetitions}"
    title = "Two processes that train together on a CPU (wall time, on a machine with other work)"
    record(type(RESULTS)(given.out), title, command, checks, seconds_a_step=kept)


if __name__ == "__main__":
    main()
