"""What the engine adds to a bare loop: the data path in training, `measure` over a forward pass, and MCDAL's heads.

Bare training: the same network, batch and optimizer on one batch that is augmented and normalised already. Bare forward: the
network in eval mode on normalised tensors. Both have the engine's precision. After every step of the engine, and every batch
that it measures, comes a bare one, in one process and in process CPU time: a neighbour on the machine who slows it down for
seconds does so for both. A turn is some of these, and gives the median of their ratios, without its first ones: what a training
sets up, a real round has once in 39,000 steps or 50,000 images. Three sources: images in memory, Parquet shards (decoded once
into a memory-mapped cache), and a folder of JPEGs that do not fit the cache and are decoded for every batch by a worker. For
the latter the ratio is of the main process alone, what the data path takes from the step.

MCDAL's step is compared with Random's, with 8 heads with that with 2, and with the published loop's two passes in train mode with
Random's. Whether workers keep up depends on the cores: the wall time of a step over that of a batch from the source alone tells
whether one worker on its own core does.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/overhead.py
    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/overhead.py --data CIFAR_FOLDER --networks resnet18_w64
"""

import argparse
import ctypes
import gc
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.images32 import SOURCES, Images32
from benchmarks.side_by_side import RESULTS, Check, Seconds, check, record
from mcdal.device import Numerics
from mcdal.measuring import measure
from mcdal.models.base import Model
from mcdal.models.resnet import ResNet
from mcdal.pool.base import Images, Pool, Positions
from mcdal.registry import load
from mcdal.training import Training, train
from mcdal.work import Forgetful

# Architecture, steps a turn, batches that are measured a turn, without those that do not count.
NETWORKS = {
    "resnet10_w8": (ResNet(10, 8), 10, 4),
    "resnet10_w16": (ResNet(10, 16), 4, 4),
    "resnet18_w64": (ResNet(18), 2, 1),
}
BEGINNING = {"memory": 2, "parquet": 2, "jpegs": 6}
"""Steps and batches that do not count. After a worker was forked, the main process copies each page that it writes to first."""
TRAINING, MEASURING, MCDAL = 1 / 0.95, 1 / 0.97, 1.35
EIGHT_HEADS, PUBLISHED = 1.03, 2.5
"""What MCDAL's step may be with 8 heads in place of 2, and with `published`, of Random's step."""
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


@dataclass
class Beside(Forgetful):
    """Is told of every step of a training as its keeper, and of every batch of a pass as its listener; runs `bare` after each.

    pairs: process CPU seconds of each step or batch, and of the bare one after it.
    """

    bare: Callable[[], object]
    pairs: list[tuple[float, float]] = field(default_factory=list)
    since: float = field(default_factory=time.process_time)

    def due(self) -> bool:
        now = time.process_time()
        self.bare()
        self.pairs.append((now - self.since, time.process_time() - now))
        self.since = time.process_time()
        return False

    def listen(self, kind: str, **told: object) -> None:
        if kind == "measure":
            self.due()


class Sides:
    """What is compared for one network on one pool: turns of the engine's work with bare work in between."""

    def __init__(self, pool: Pool, architecture: ResNet, steps: int, batches: int, skip: int):
        torch.manual_seed(0)
        # After the last step a keeper is not asked whether it is due.
        self.training = Training(epochs=1, steps_per_epoch=skip + steps + 1)
        self.numerics = numerics = self.training.numerics("cpu")
        self._build = lambda: numerics.place(architecture.build(10, 3, (32, 32)))
        labels = {id: i % 10 for i, id in enumerate(pool.images.ids)}
        self._labels = dict(itertools.islice(labels.items(), len(labels) // 2))
        size = self.training.measure_batch_size
        self._pool, self._skip = pool, skip
        self._small = replace(pool, images=First(pool.images, min((skip + batches) * size, len(pool))))
        x = numerics.arrange(torch.randn(self.training.batch_size, 3, 32, 32))
        y = torch.arange(self.training.batch_size) % 10
        self._bare_step = bare_step(self._build(), x, y, self.training, numerics)
        self._measured = self._build()
        ready = numerics.arrange(torch.randn(min(size, len(pool)), 3, 32, 32))
        self._bare_forward = bare_forward(self._build(), ready, numerics)
        self._models: dict[str, Model] = {}

    def train(self, strategy: str, **settings: Any) -> Beside:
        """One turn of training under a strategy."""
        beside = Beside(self._bare_step)
        model = self._models.setdefault(f"{strategy} {settings}", self._build())
        made = load("strategies", strategy)(**settings)
        train(model, self._pool, self._labels, made, self.training, numerics=self.numerics, keeper=beside)
        return beside

    def measure(self) -> Beside:
        """One turn of a pass that measures the margin."""
        beside = Beside(self._bare_forward)
        margin, size = load("strategies", "margin")(), self.training.measure_batch_size
        measure(self._measured, self._small, {}, margin, numerics=self.numerics, batch_size=size, listen=beside.listen)
        whole = len(self._small) // size
        return replace(beside, pairs=beside.pairs[: max(1, whole)])  # a last batch is smaller

    def share(self, beside: Beside) -> float:
        """The median ratio of what counts in a turn; of a turn that has less than that, of its last."""
        counted = beside.pairs[self._skip :] or beside.pairs[-1:]
        return statistics.median(ours / bare for ours, bare in counted)


class First(Images):
    """The first `n` images of others."""

    def __init__(self, images: Images, n: int):
        self.ids = images.ids[:n]
        self._images = images

    def batches(self, positions, device):  # type: ignore[no-untyped-def]
        return self._images.batches(positions, device)


def bare_step(model: Model, x: Tensor, y: Tensor, training: Training, numerics: Numerics) -> Callable[[], None]:
    """A training step on tensors that are ready."""
    optimizer = training.optimization.optimizer(model.train().parameters())

    def once() -> None:
        with numerics.autocast():
            loss = F.cross_entropy(model(x).logits, y)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()

    return once


def bare_forward(model: Model, x: Tensor, numerics: Numerics) -> Callable[[], None]:
    """A forward pass over tensors that are ready."""
    model.eval()

    def once() -> None:
        with torch.inference_mode(), numerics.autocast():
            model(x)

    return once


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


def _plain(positions):  # type: ignore[no-untyped-def]
    chosen: Positions
    for chosen in positions:
        yield chosen.astype(np.int64)


def measured(
    network: str, sources: tuple[str, ...], images: Images32, repetitions: int
) -> tuple[list[Check], dict[str, object]]:
    """The checks of one network over the sources, and medians: in bare steps and passes, and these in seconds."""
    keep_memory()
    architecture, steps, batches = NETWORKS[network]
    found: list[Check] = []
    medians: dict[str, object] = {}
    for source in sources:
        with tempfile.TemporaryDirectory() as folder:
            pool = images.source(source, Path(folder), Training().measure_batch_size)
            sides = Sides(pool, architecture, steps, batches, BEGINNING[source])
            shares, bare = turns(sides, HEADS if source == "memory" else {}, repetitions)
            fed = feeding(pool, Training().batch_size)
        of, workers = f"{network}, {source}", source == "jpegs"
        judged = [
            check(f"train over bare step, {of}", shares, "train", "bare", "at most", TRAINING),
            check(f"measure over bare forward, {of}", shares, "measure", "bare", "at most", MEASURING),
        ]
        if "mcdal" in shares:
            judged += heads_checks(shares, of)
        found += [replace(each, detail=f"{repetitions} turns") for each in judged]
        step = bare["bare step, s"] * statistics.median(shares["train"])
        keeps = "the source alone, one worker" if workers else "the source alone"
        found.append(
            Check(f"a step over what feeds it, wall, {of}", step / fed, 1.0, "at least", detail=f"{keeps}: {fed:.4f} s")
        )
        in_bare = {f"{name}, in bare ones": statistics.median(values) for name, values in shares.items()}
        medians[source] = {**in_bare, **bare, "feeding a batch, wall s": fed}
    return found, medians


def turns(sides: Sides, heads: Mapping[str, Mapping[str, Any]], repetitions: int) -> tuple[Seconds, dict[str, float]]:
    """Of each turn the engine's steps and batches in bare ones; and how many seconds these take."""
    work = {"train": lambda: sides.train("random"), "measure": sides.measure}
    work |= {name: partial(sides.train, "mcdal", **settings) for name, settings in heads.items()}
    shares: Seconds = {name: [] for name in work}
    bare: Seconds = {"bare step, s": [], "bare forward, s": []}
    for repetition in range(1 + repetitions):  # the first warms up
        for name, once in work.items():
            gc.collect()
            turn = once()
            if repetition:
                shares[name].append(sides.share(turn))
                bare["bare forward, s" if name == "measure" else "bare step, s"] += [b for _, b in turn.pairs]
    shares["bare"] = [1.0] * repetitions
    return shares, {name: statistics.median(values) for name, values in bare.items()}


def heads_checks(seconds: Seconds, of: str) -> list[Check]:
    """Of MCDAL's step, as it is, with more heads and as published."""
    eight, published = f"MCDAL's step with 8 heads over 2, {of}", f"MCDAL's step as published over Random's, {of}"
    return [
        check(f"MCDAL's step over Random's, {of}", seconds, "mcdal", "train", "at most", MCDAL),
        check(eight, seconds, "mcdal, 8 heads", "mcdal", "at most", EIGHT_HEADS),
        check(published, seconds, "mcdal, published", "train", "at most", PUBLISHED),
    ]


def turns_of(network: str, repetitions: int) -> int:
    """Of the paper's network, which needs seconds for each step, a quarter."""
    return max(3, repetitions // 4) if network == "resnet18_w64" else repetitions


def checks(quick: bool) -> list[Check]:
    """The small network over all sources (quick), or the paper's too."""
    torch.set_num_threads(1)
    images = Images32(4_000 if quick else 33_000)
    networks = ["resnet10_w8"] if quick else ["resnet10_w8", "resnet18_w64"]
    repetitions = 4 if quick else 12
    return [c for name in networks for c in measured(name, SOURCES, images, turns_of(name, repetitions))[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with CIFAR-10; without it, synthetic images")
    parser.add_argument("--repetitions", type=int, default=12, help="turns; of the paper's network a quarter")
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
        repetitions = turns_of(network, given.repetitions)
        more, medians[network] = measured(network, tuple(given.sources), images, repetitions)
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
