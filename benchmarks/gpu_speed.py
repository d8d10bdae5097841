"""Training steps a second of the paper's ResNet-18 on a GPU: compiled or not, replayed or not, under Random and MCDAL.

Images are noise: what they show changes no timing. Wall time between two reports of the training, each of which waits for the
device, after compilation and the first steps. `profile` says which kernels the time went to. Writes after every part, so that
an ended lease leaves what there was.

    PYTHONPATH=. python benchmarks/gpu_speed.py --minutes 3
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.side_by_side import Check, record
from mcdal.measuring import measure
from mcdal.models.resnet import ResNet
from mcdal.pool.arrays import Arrays
from mcdal.pool.base import Pool
from mcdal.pool.cifar import Cifar
from mcdal.recipes.base import paper
from mcdal.registry import load
from mcdal.replay import Replayed
from mcdal.strategies.mcdal import MCDAL
from mcdal.training import Training, train

PARTS = [
    # strategy, compiled, replayed, deterministic kernels
    ("mcdal", True, True, True),
    ("random", True, True, True),
    ("mcdal", False, False, True),
    ("random", False, False, True),
    ("mcdal", True, True, False),
    ("mcdal", False, True, True),
]

PAPER = paper(Cifar(Path(), classes=10), MCDAL())


class EnoughError(Exception):
    """Stops a training that has been watched for long enough."""


class Watch:
    """Steps a second from `after` seconds of training on, for `seconds`."""

    def __init__(self, after: float, seconds: float):
        self.begun, self.after, self.seconds = time.monotonic(), after, seconds
        self.points: list[tuple[float, int]] = []

    def tell(self, kind: str, **fields: Any) -> None:
        if kind != "train":
            return
        now = time.monotonic()
        self.points.append((now, fields["done"]))
        first = self.points[0][0]
        if now > first + self.after + self.seconds:
            raise EnoughError

    def found(self) -> dict[str, float]:
        first = self.points[0][0]
        kept = [p for p in self.points if p[0] >= first + self.after]
        rate = (kept[-1][1] - kept[0][1]) / (kept[-1][0] - kept[0][0])
        return {"steps_a_second": rate, "seconds_to_first_report": first - self.begun}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seconds", type=float, default=3.0, help="watched for each part")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gpu_speed.json")
    parser.add_argument("--only-measure", action="store_true", help="no training")
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    pool = noise(50_000)
    found: dict[str, Any] = {"parts": []}
    of_measure = measure_parts(pool, given.device)
    title, command = "Training steps on a GPU", "python benchmarks/gpu_speed.py"
    if given.only_measure:
        title, command = "A pass over the pool on a GPU", f"{command} --only-measure"
    for part in of_measure if given.only_measure else parts(pool, given.device, given.seconds):
        found["parts"].append(part)
        print(json.dumps(part), flush=True)
        record(given.out, title, command, judged(found["parts"]), **found)
        if time.monotonic() > end:
            break


def judged(parts: list[dict[str, Any]]) -> list[Check]:
    """What the parts say of the bounds."""
    steps = {
        (p["strategy"], p["compile"], p["replay"], p["deterministic"]): p["steps_a_second"]
        for p in parts
        if "steps_a_second" in p
    }
    bare: dict[str, float] = {
        k: next(iter(v.values())) for p in parts for k, v in p.items() if k.startswith(("bare", "measure"))
    }
    best = {name: steps.get((name, True, True, True)) for name in ("random", "mcdal")}
    ratios = {
        "training under Random over a bare loop": (best["random"], bare.get("bare training"), 0.95, "at least"),
        "measure of 50,000 over a bare forward pass": (bare.get("measure"), bare.get("bare forward"), 0.97, "at least"),
        "measure of 400,000 over a bare forward pass": (
            bare.get("measure, 8 times"),
            bare.get("bare forward again"),
            0.97,
            "at least",
        ),
        "MCDAL's step over Random's": (best["random"], best["mcdal"], 1.35, "at most"),
        "MCDAL, compiled and replayed over neither": (
            best["mcdal"],
            steps.get(("mcdal", False, False, True)),
            None,
            "at least",
        ),
        "Random, compiled and replayed over neither": (
            best["random"],
            steps.get(("random", False, False, True)),
            None,
            "at least",
        ),
    }
    found = [
        Check(name, over / under, bound, must_be, detail=f"{over:,.0f} and {under:,.0f} a second")  # type: ignore[arg-type]
        for name, (over, under, bound, must_be) in ratios.items()
        if over and under
    ]
    if best["mcdal"]:
        minutes = 7 * 39_000 / best["mcdal"] / 60
        found.append(
            Check("the paper's seven rounds of MCDAL: their steps alone", minutes, 10, "at most", unit="minutes")
        )
    return found


def parts(pool: Pool, device: str, seconds: float) -> Iterator[dict[str, Any]]:
    for strategy, compiled, replayed, deterministic in PARTS:
        name = {"strategy": strategy, "compile": compiled, "replay": replayed, "deterministic": deterministic}
        try:
            yield name | speed(pool, device, strategy, compiled, replayed, deterministic, seconds)
        except Exception as error:  # the others are still worth having
            yield name | {"failed": f"{type(error).__name__}: {error}"[:600]}
        if (strategy, compiled, replayed, deterministic) == PARTS[0]:
            try:
                yield {"profile": profile(pool, device, compiled)}
            except Exception as error:
                yield {"profile": f"{type(error).__name__}: {error}"[:600]}
        if (strategy, compiled, replayed, deterministic) == PARTS[1]:
            yield {"bare training": bare_training(device, seconds)}
            yield from measure_parts(pool, device)


def measure_parts(pool: Pool, device: str) -> Iterator[dict[str, Any]]:
    """A pass has a beginning and an end, so that of a large pool it is nearer to a bare forward pass."""
    yield {"bare forward": bare_forward(len(pool), device), "measure": measuring(pool, device)}
    yield {"measure, 8 times": measuring(noise(8 * len(pool)), device)}
    yield {"bare forward again": bare_forward(len(pool), device)}
    try:
        yield {"profile of measure": profile_of_measure(pool, device)}
    except Exception as error:
        yield {"profile of measure": f"{type(error).__name__}: {error}"[:600]}


def training(steps: int, compiled: bool, replayed: bool) -> Training:
    replay = replayed and torch.cuda.is_available()
    return replace(PAPER.training, epochs=1, steps_per_epoch=steps, compile=compiled, replay=replay)


def speed(
    pool: Pool, device: str, strategy: str, compiled: bool, replayed: bool, deterministic: bool, seconds: float
) -> dict[str, float]:
    watch, how = Watch(1.0, seconds), training(1_000_000, compiled, replayed)
    numerics = how.numerics(device)
    if not deterministic:
        numerics = Free(**vars(numerics))
    labels = {id: i % 10 for i, id in enumerate(pool.images.ids[:20_000])}
    model = ResNet().build(10, 3, (32, 32))
    with suppress(EnoughError):
        train(model, pool, labels, load("strategies", strategy)(), how, numerics=numerics, listen=watch.tell)
    return watch.found() | {"gigabytes": torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0}


def profile(pool: Pool, device: str, compiled: bool, steps: int = 40) -> list[dict[str, Any]]:
    """The kernels that take longest, over the last steps of a training."""
    how = training(steps, compiled, True)
    labels = {id: i % 10 for i, id in enumerate(pool.images.ids[:20_000])}
    model = ResNet().build(10, 3, (32, 32))
    train(model, pool, labels, load("strategies", "mcdal")(), how, numerics=how.numerics(device))
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as seen:
        train(model, pool, labels, load("strategies", "mcdal")(), how, numerics=how.numerics(device))
    return longest(seen, steps)


def profile_of_measure(pool: Pool, device: str) -> list[dict[str, Any]]:
    """The same for a pass over the pool, a batch being a step."""
    how = training(1, True, True)
    model, strategy = ResNet().build(10, 3, (32, 32)), load("strategies", "margin")()
    measure(model, pool, {}, strategy, numerics=how.numerics(device), batch_size=how.measure_batch_size)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as seen:
        measure(model, pool, {}, strategy, numerics=how.numerics(device), batch_size=how.measure_batch_size)
    return longest(seen, -(-len(pool) // how.measure_batch_size))


def longest(seen: torch.profiler.profile, steps: int) -> list[dict[str, Any]]:
    """What took longest on the device and on the host, in milliseconds a step."""
    rows = sorted(seen.key_averages(), key=lambda row: -row.self_device_time_total)
    whole = sum(r.self_device_time_total for r in rows if r.device_type == torch.autograd.DeviceType.CUDA)
    kernels = [
        {"kernel": r.key[:90], "ms_a_step": r.self_device_time_total / 1e3 / steps, "calls": r.count} for r in rows[:25]
    ]
    host = sorted(rows, key=lambda row: -row.self_cpu_time_total)[:12]
    return [
        {"all kernels": "", "ms_a_step": whole / 1e3 / steps},
        *kernels,
        *({"host": r.key[:60], "ms_a_step": r.self_cpu_time_total / 1e3 / steps} for r in host),
    ]


def bare_training(device: str, seconds: float) -> dict[str, float]:
    """The compiled network's steps, recorded and replayed, on one batch that is on the device and normalised."""
    how = training(1, True, True)
    numerics, batch = how.numerics(device), torch.randn(how.batch_size, 3, 32, 32)
    model = numerics.place(ResNet().build(10, 3, (32, 32))).train()
    optimizer = how.optimization.optimizer(model.parameters())

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        with numerics.autocast():
            loss = torch.nn.functional.cross_entropy(model(x).logits, y)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()

    x, y = numerics.arrange(batch), torch.arange(len(batch), device=numerics.device) % 10
    with numerics.deterministic():
        work = Replayed(step, numerics.device) if numerics.replay else step
        return {"steps_a_second": rate(lambda: work(x, y), seconds, numerics.device)}


def bare_forward(images: int, device: str) -> dict[str, float]:
    """The compiled network in eval mode on batches that are on the device and normalised."""
    how = training(1, True, True)
    numerics = how.numerics(device)
    model = numerics.place(ResNet().build(10, 3, (32, 32))).eval()
    x = numerics.arrange(torch.randn(how.measure_batch_size, 3, 32, 32))
    with torch.inference_mode(), numerics.autocast():
        return {"images_a_second": len(x) * rate(lambda: model(x), 1.0, numerics.device)}


def rate(work: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Calls a second, after 20 that do not count."""
    for _ in range(20):
        work()
    begun, calls = time.monotonic(), 0
    while True:
        work()
        calls += 1
        if calls % 100 == 0 and device.type == "cuda":
            torch.cuda.synchronize()
        if calls % 100 == 0 and time.monotonic() - begun > seconds:
            return calls / (time.monotonic() - begun)


def measuring(pool: Pool, device: str) -> dict[str, float]:
    """Images a second of a pass over the pool: the median of three, after one that compiles."""
    model = ResNet().build(10, 3, (32, 32))
    how = training(1, True, True)
    strategy = load("strategies", "margin")()
    seconds = []
    for _ in range(4):
        begun = time.monotonic()
        measure(model, pool, {}, strategy, numerics=how.numerics(device), batch_size=how.measure_batch_size)
        seconds.append(time.monotonic() - begun)
    return {"images_a_second": len(pool) / median(seconds[1:])}


def noise(n: int) -> Pool:
    random = np.random.default_rng(0)
    x, test = (random.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8) for size in (n, 20))
    return Arrays(x, np.arange(n) % 10, test, np.arange(20) % 10).open(Path())


class Free(type(Training().numerics("cpu"))):  # type: ignore[misc]
    """Numerics that let CUDA search for the fastest kernels, whatever they round."""

    def deterministic(self):  # type: ignore[no-untyped-def]
        torch.backends.cudnn.benchmark = True
        return nullcontext()


if __name__ == "__main__":
    main()
