"""What every measurement here shares: sides that take turns, ratios with their noise, bounds, peak memory, and the file.

Process CPU time, since wall time lies on a shared machine. A ratio is the median of those within the repetitions, whose sides run
one after the other: a machine that becomes slower or faster for some minutes does so for both. Its noise is half their
interquartile range.
"""

import argparse
import datetime
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch

from mcdal.environment import environment
from mcdal.training import Training

RESULTS = Path(__file__).parent / "results"
PEERS = {"skactiveml": "scikit-activeml", "sklearn": "scikit-learn"}
Seconds = dict[str, list[float]]
NOISE = 0.15
"""The most that measured noise excuses: a ratio that is off by more by itself tells nothing, whatever its bound."""


@dataclass(frozen=True)
class Check:
    """A measured number, and what it must not fall under or exceed. noise: how far it may be off by itself, as a share of it.

    bound None: told, not judged.
    """

    name: str
    value: float
    bound: float | None
    must_be: Literal["at least", "at most"]
    noise: float = 0.0
    unit: str = "times"
    detail: str = ""

    @property
    def met(self) -> bool:
        """Whether the bound is met, whatever the noise."""
        return self._within(0.0)

    @property
    def holds(self) -> bool:
        """Whether the bound is met, or missed by no more than the noise, of which NOISE is taken at most."""
        return self._within(min(self.noise, NOISE))

    @property
    def too_noisy(self) -> bool:
        """Whether it misses a bound that its own noise, taken as it is, would excuse: to be measured again."""
        return not self.holds and self._within(self.noise)

    def _within(self, noise: float) -> bool:
        if self.bound is None:
            return True
        if self.must_be == "at least":
            return self.value * (1 + noise) >= self.bound
        return self.value * (1 - noise) <= self.bound


def interleaved(sides: Mapping[str, Callable[[], object]], repetitions: int, warm: int = 1) -> Seconds:
    """Process CPU seconds of each side, in turn, after `warm` rounds that do not count."""
    seconds: Seconds = {name: [] for name in sides}
    for repetition in range(warm + repetitions):
        for name, work in sides.items():
            gc.collect()
            begun = time.process_time()
            work()
            if repetition >= warm:
                seconds[name].append(time.process_time() - begun)
    return seconds


def ratio(seconds: Seconds, over: str, under: str) -> tuple[float, float]:
    """What `over` takes of `under`, the median of the repetitions, and its noise as a share of it."""
    within = sorted(a / b for a, b in zip(seconds[over], seconds[under], strict=True))
    value = statistics.median(within)
    if len(within) < 3:
        return value, (within[-1] - within[0]) / 2 / value
    low, _, high = statistics.quantiles(within, n=4)
    return value, (high - low) / 2 / value


def check(
    name: str, seconds: Seconds, over: str, under: str, must_be: Literal["at least", "at most"], bound: float | None
) -> Check:
    """The ratio of two sides against its bound."""
    value, noise = ratio(seconds, over, under)
    medians = ", ".join(f"{side} {statistics.median(seconds[side]):.3g} s" for side in (over, under))
    return Check(name, value, bound, must_be, noise, detail=medians)


def peak_megabytes(prepare: Callable[..., Any], work: Callable[[Any], object], *arguments: Any) -> float:
    """How far the memory of a fresh process rises above what it held when `work(prepare(*arguments))` began. Linux.

    Pages of mapped files do not count. Both functions are known by name (no lambdas).
    """
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (prepare, work, arguments))


def _peak(prepare: Callable[..., Any], work: Callable[[Any], object], arguments: tuple[Any, ...]) -> float:
    import threading

    torch.set_num_threads(1)
    made = prepare(*arguments)
    gc.collect()
    before, highest, over = _anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not over.wait(0.002):
            highest = max(highest, _anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work(made)
    over.set()
    watcher.join()
    return (highest - before) / 2**20


def _anonymous() -> int:
    """Bytes that this process has in memory, without pages of files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon")


def record(out: Path, title: str, command: str, checks: Sequence[Check], **more: Any) -> None:
    """Writes a result with what it was made by, and prints its checks."""
    found = {
        "title": title,
        "command": command,
        "date": datetime.date.today().isoformat(),
        "machine": f"{cpu()}, {os.cpu_count()} cores",
        "environment": {k: v for k, v in environment(Training().numerics("auto")).items() if k != "host"}
        | compared_with(),
        "checks": [asdict(c) | {"holds": c.holds} for c in checks],
        **more,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1, default=_short) + "\n")
    show(checks)


def run_alone(name: str, title: str, about: str | None, checks: Callable[[bool], list[Check]]) -> None:
    """What `python -m benchmarks.NAME` does: `checks(False)` into a result, or with --quick `checks(True)`, shown only."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few turns, or small; nothing is written")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.json")
    given = parser.parse_args()
    found = checks(given.quick)
    if given.quick:
        show(found)
    else:
        record(given.out, title, f"python -m benchmarks.{name}", found)


def compared_with() -> dict[str, str]:
    """Versions of the packages that a measurement may compare with, of those that this process has imported."""
    return {package: version(package) for module, package in PEERS.items() if module in sys.modules}


def show(checks: Sequence[Check]) -> None:
    for c in checks:
        bound = "" if c.bound is None else f" ({c.must_be} {c.bound:g})"
        print(
            f"{'ok  ' if c.holds else 'FAIL'} {c.name}: {c.value:.3g} {c.unit}{bound} ±{100 * c.noise:.0f} % {c.detail}",
            flush=True,
        )


def _short(value: Any) -> Any:
    return float(value)


def cpu() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
