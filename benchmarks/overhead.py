"""What the engine adds to a bare loop: the data path in training, `measure` over a forward pass, and MCDAL's heads.

Bare training: the same network, batch and optimizer on one batch that is augmented and normalised already. Bare forward: the
network in eval mode on normalised tensors. Both sides of a ratio have one precision, alternate in one process and are compared
in process CPU time, since wall time lies on a shared machine. Three sources: images in
memory, Parquet shards (decoded once into a memory-mapped cache), and a folder of JPEGs that do not fit the cache and are
decoded for every batch by a worker. For the latter the ratio is of the main process alone, what the data path takes from the
step, without the start of the worker, which a real round has once in 39,000 steps or 50,000 images: it is told apart, by turns
of two lengths. A quick run is too short to judge it.

MCDAL's step is compared with Random's, with 8 heads with that with 2, and with the published loop's two passes in train mode with
Random's. Whether workers keep up depends on the cores: the wall time of a step over that of a batch from the source alone tells
whether one worker on its own core does.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/overhead.py
    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/overhead.py --data CIFAR_FOLDER --networks resnet18_w64
"""

import argparse
import ctypes
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.images32 import SOURCES, Images32
from benchmarks.side_by_side import RESULTS, Check, Seconds, check, interleaved, record
from mcdal.device import Numerics
from mcdal.measuring import measure
from mcdal.models.resnet import ResNet
from mcdal.pool.base import Images, Pool, Positions
from mcdal.registry import load
from mcdal.training import Training, train

# Architecture, steps a turn, batches that are measured a turn. Turns are short and many: a neighbour on the machine that takes
# its caches for a second then spoils one or two of them, and the median does not see it.
NETWORKS = {
    "resnet10_w8": (ResNet(10, 8), 10, 4), "resnet10_w16": (ResNet(10, 16), 4, 4), "resnet18_w64": (ResNet(18), 1, 1),
}  # fmt: skip
WITH_WORKERS, QUICK = (1, 17), (1, 5)
"""How many times as long turns are where a worker starts in each: what the two differ by is without the start, and without the
copies of memory that the processes share until one writes to it."""
TRAINING, MEASURING, MCDAL = 1 / 0.95, 1 / 0.97, 1.35
EIGHT_HEADS, PUBLISHED = 1.03, 2.5
"""What MCDAL's step may be with 8 heads in place of 2, and with `published`, of Random's step."""
Sides = Mapping[str, Callable[[], object]]
Counts = Mapping[str, int]
HEADS: dict[str, dict[str, Any]] = {
    "mcdal": {}, "mcdal, 8 heads": {"heads": 8}, "mcdal, published": {"published": True}
}  # fmt: skip


def keep_memory() -> None:
    """Freed memory stays with the process. Otherwise the allocator gives it back and takes it again, on one side of a ratio or
    the other by chance, and page faults of up to a quarter of a step's time decide."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD, the most there is


def sides(
    pool: Pool, architecture: ResNet, training: Training, measured_batches: int, heads: bool
) -> tuple[Sides, Counts]:
    """What takes turns, and how many steps or images each turn has."""
    torch.manual_seed(0)
    numerics = training.numerics("cpu")
    models = [numerics.place(architecture.build(10, 3, (32, 32))) for _ in range(3 + heads * len(HEADS))]
    labels = {id: i % 10 for i, id in enumerate(pool.images.ids)}
    few = dict(itertools.islice(labels.items(), len(labels) // 2))
    x = numerics.arrange(torch.randn(training.batch_size, 3, 32, 32))
    y = torch.arange(training.batch_size) % 10
    n = min(measured_batches * training.measure_batch_size, len(pool))
    small = replace(pool, images=First(pool.images, n))
    size = training.measure_batch_size
    batches = [numerics.arrange(torch.randn(min(size, n - i), 3, 32, 32)) for i in range(0, n, size)]
    margin = load("strategies", "margin")()

    def ours(model: nn.Module, strategy: str, **settings: Any) -> Callable[[], object]:
        made = load("strategies", strategy)(**settings)
        return lambda: train(model, pool, few, made, training, numerics=numerics)

    found: dict[str, Callable[[], object]] = {
        "bare step": lambda: bare_training(models[0], x, y, training, numerics),
        "train": ours(models[1], "random"),
        "bare forward": lambda: bare_forward(models[2], batches, numerics),
        "measure": lambda: measure(models[2], small, {}, margin, numerics=numerics),
    }
    if heads:
        kinds = zip(HEADS.items(), models[3:], strict=True)
        found |= {name: ours(model, "mcdal", **settings) for (name, settings), model in kinds}
    return found, {name: n if name in ("bare forward", "measure") else training.steps for name in found}


class First(Images):
    """The first `n` images of others."""

    def __init__(self, images: Images, n: int):
        self.ids = images.ids[:n]
        self._images = images

    def batches(self, positions, device):  # type: ignore[no-untyped-def]
        return self._images.batches(positions, device)


def bare_training(model: nn.Module, x: Tensor, y: Tensor, training: Training, numerics: Numerics) -> None:
    model.train()
    optimizer = training.optimization.optimizer(model.parameters())
    for _ in range(training.steps):
        with numerics.autocast():
            loss = F.cross_entropy(model(x).logits, y)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()


def bare_forward(model: nn.Module, batches: list[Tensor], numerics: Numerics) -> None:
    model.eval()
    with torch.inference_mode(), numerics.autocast():
        for x in batches:
            model(x)


def feeding(pool: Pool, batch: int, batches: int = 40) -> float:
    """Wall seconds a batch that the source alone needs, once it is under way: above a step's time, the step waits."""
    order = np.random.default_rng(0).permutation(len(pool))
    positions = (np.resize(np.roll(order, -i * batch), batch) for i in range(batches))
    stream = pool.images.batches(_plain(positions), torch.device("cpu"))
    for _ in range(8):  # started, and ahead by what the workers may be
        next(stream)
    begun = time.perf_counter()
    count = sum(1 for _ in stream)
    return (time.perf_counter() - begun) / count


def beyond_the_start(
    few: tuple[Sides, Counts], many: tuple[Sides, Counts], repetitions: int
) -> tuple[Seconds, Counts, float]:
    """What long turns take beyond short ones, for how many steps or images, and what `train` takes besides those."""
    turns = {f"{name}, few": work for name, work in few[0].items()} | {
        f"{name}, many": w for name, w in many[0].items()
    }
    seconds = interleaved(turns, repetitions)
    beyond = {
        name: [b - a for a, b in zip(seconds[f"{name}, few"], seconds[f"{name}, many"], strict=True)] for name in few[0]
    }
    counts = {name: many[1][name] - few[1][name] for name in few[0]}
    step = statistics.median(beyond["train"]) / counts["train"]
    return beyond, counts, statistics.median(seconds["train, few"]) - few[1]["train"] * step


def _plain(positions):  # type: ignore[no-untyped-def]
    chosen: Positions
    for chosen in positions:
        yield chosen.astype(np.int64)


def measured(
    network: str, sources: tuple[str, ...], images: Images32, repetitions: int, quick: bool = False
) -> tuple[list[Check], dict[str, object]]:
    """The checks of one network over the sources, and the medians in seconds a step or an image."""
    keep_memory()
    architecture, steps, batches = NETWORKS[network]
    found: list[Check] = []
    medians: dict[str, object] = {}
    for source in sources:
        workers = source == "jpegs"
        with tempfile.TemporaryDirectory() as folder:
            pool = images.source(source, Path(folder), Training().measure_batch_size)

            def turns(times: int, pool: Pool = pool, heads: bool = source == "memory") -> tuple[Sides, Counts]:
                return sides(
                    pool, architecture, Training(epochs=1, steps_per_epoch=times * steps), times * batches, heads
                )

            if workers:
                times = QUICK if quick or steps == 1 else WITH_WORKERS
                seconds, counts, start = beyond_the_start(*map(turns, times), max(3, repetitions // 5))
                found.append(Check(f"starting a worker, {network}", start, None, "at most", unit="s"))
            else:
                work, counts = turns(1)
                seconds = interleaved(work, repetitions)
            fed = feeding(pool, Training().batch_size)
        of = f"{network}, {source}"
        bounds = (None, None) if quick and workers else (TRAINING, MEASURING)
        found += [
            check(f"train over bare step, {of}", seconds, "train", "bare step", "at most", bounds[0]),
            check(f"measure over bare forward, {of}", seconds, "measure", "bare forward", "at most", bounds[1]),
        ]
        if "mcdal" in seconds:
            found += heads_checks(seconds, of)
        each = {f"{name}, s": statistics.median(values) / counts[name] for name, values in seconds.items()}
        step = each["bare step, s"]
        keeps = "the source alone, one worker" if workers else "the source alone"
        found.append(
            Check(f"a step over what feeds it, wall, {of}", step / fed, 1.0, "at least", detail=f"{keeps}: {fed:.4f} s")
        )
        medians[source] = {**each, "feeding a batch, wall s": fed}
    return found, medians


def heads_checks(seconds: Seconds, of: str) -> list[Check]:
    """Of MCDAL's step, as it is, with more heads and as published."""
    eight, published = f"MCDAL's step with 8 heads over 2, {of}", f"MCDAL's step as published over Random's, {of}"
    return [
        check(f"MCDAL's step over Random's, {of}", seconds, "mcdal", "train", "at most", MCDAL),
        check(eight, seconds, "mcdal, 8 heads", "mcdal", "at most", EIGHT_HEADS),
        check(published, seconds, "mcdal, published", "train", "at most", PUBLISHED),
    ]


def checks(quick: bool) -> list[Check]:
    """The small network over all sources (quick), or the paper's too."""
    torch.set_num_threads(1)
    images = Images32(4_000 if quick else 33_000)
    networks = ["resnet10_w8"] if quick else ["resnet10_w8", "resnet18_w64"]
    turns = 12 if quick else 28
    return [c for name in networks for c in measured(name, SOURCES, images, turns, quick)[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with CIFAR-10; without it, synthetic images")
    parser.add_argument("--repetitions", type=int, default=28, help="turns; with workers a fifth")
    parser.add_argument("--images", type=int, default=33_000)
    parser.add_argument("--networks", nargs="*", default=["resnet10_w8", "resnet18_w64"], choices=list(NETWORKS))
    parser.add_argument("--sources", nargs="*", default=list(SOURCES), choices=SOURCES)
    parser.add_argument("--out", type=Path, default=RESULTS / "overhead.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        images = Images32(given.images, given.data, Path(cache))
    found: list[Check] = []
    medians: dict[str, object] = {}
    for network in given.networks:
        more, medians[network] = measured(network, tuple(given.sources), images, given.repetitions)
        found += more
        command = (
            f"python benchmarks/overhead.py --repetitions {given.repetitions} --images {given.images}"
            + f" --networks {' '.join(given.networks)} --sources {' '.join(given.sources)}"
            + " --data CIFAR" * bool(given.data)
        )
        record(
            given.out,
            "What the engine adds to a bare loop",
            command,
            found,
            unit="process CPU seconds",
            medians=medians,
        )


if __name__ == "__main__":
    main()
