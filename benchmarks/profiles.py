"""Where the time goes: the largest entries of a profile of training, of measuring, or of a strategy's choice, with their share.

Run on two commits, with the same words, it tells what a change has done. One warm turn, then one that counts, on one thread of a
CPU. By cProfile: seconds within each function itself, Python's or a library's, what it calls left out (that of a backward pass
is one entry). With --torch by torch.profiler: seconds within each operator. Both cost time of their own, so shares count and
seconds are too many. Images and rows are noise, as in the other measurements: what they show changes no timing.

    OMP_NUM_THREADS=1 PYTHONPATH=. python -m benchmarks.profiles train --strategy mcdal --steps 40
    OMP_NUM_THREADS=1 PYTHONPATH=. python -m benchmarks.profiles measure --strategy mc_dropout --rows 5000 --torch
    OMP_NUM_THREADS=1 PYTHONPATH=. python -m benchmarks.profiles select --strategy falcun --rows 50000 --budget 100 --out a.json
"""

import argparse
import cProfile
import itertools
import json
import pstats
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.choices import DRAWS, SEED, C, Case, given, made
from benchmarks.original_loop import noise
from mcdal.device import choose_device, resolve
from mcdal.environment import environment
from mcdal.measuring import measure, select
from mcdal.models.resnet import ResNet
from mcdal.registry import listed, load
from mcdal.training import Training, train

ROOT = Path(__file__).parents[1]
LARGEST = 10
Work = Callable[[], object]


@dataclass(frozen=True)
class Entry:
    """seconds: within it, without what it calls. share: of all. calls: how often."""

    name: str
    seconds: float
    share: float
    calls: int


def main() -> None:
    words = parser().parse_args()
    torch.set_num_threads(1)
    work = {"train": training, "measure": measuring, "select": choosing}[words.what](words)
    work()
    entries = (by_operator if words.torch else by_function)(work)
    show(entries)
    if words.out is not None:
        words.out.write_text(json.dumps(result(entries), indent=1) + "\n")


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("what", choices=("train", "measure", "select"))
    found.add_argument("--strategy", default="random", choices=sorted(listed("strategies")), metavar="NAME")
    found.add_argument("--rows", type=int, default=4_000, help="images, or rows to choose from")
    found.add_argument("--labeled", type=int, default=400)
    found.add_argument("--features", type=int, default=128, help="of the rows; batch_bald has draws x classes")
    found.add_argument("--budget", type=int, default=20)
    found.add_argument("--steps", type=int, default=20, help="of the training")
    found.add_argument("--depth", type=int, default=10, help="of the ResNet")
    found.add_argument("--width", type=int, default=8)
    found.add_argument("--torch", action="store_true", help="operators of torch in place of functions")
    found.add_argument("--out", type=Path, help="a JSON file for the entries")
    return found


def training(words: argparse.Namespace) -> Work:
    pool, architecture = noise(words.rows), ResNet(words.depth, words.width)
    labels = {id: i % C for i, id in enumerate(itertools.islice(pool.images.ids, words.labeled))}
    plan = Training(epochs=1, steps_per_epoch=words.steps)
    numerics = plan.numerics("cpu")

    def work() -> None:
        torch.manual_seed(SEED)
        model = architecture.build(C, *pool.shape)
        train(model, pool, labels, load("strategies", words.strategy)(), plan, numerics=numerics)

    return work


def measuring(words: argparse.Namespace) -> Work:
    """After one step, which attaches what the strategy has of its own."""
    pool, strategy = noise(words.rows), load("strategies", words.strategy)()
    labels = {id: i % C for i, id in enumerate(itertools.islice(pool.images.ids, words.labeled))}
    plan = Training(epochs=1, steps_per_epoch=1)
    numerics = plan.numerics("cpu")
    torch.manual_seed(SEED)
    model = ResNet(words.depth, words.width).build(C, *pool.shape)
    train(model, pool, labels, strategy, plan, numerics=numerics)
    return partial(measure, model, pool, labels, strategy, numerics=numerics)


def choosing(words: argparse.Namespace) -> Work:
    d = DRAWS * C if words.strategy == "batch_bald" else words.features
    case = Case(words.strategy, "", 0.0, words.rows, d, words.labeled, words.budget)
    return partial(select, made(case), given(case), words.budget, seed=SEED)


def by_function(work: Work) -> list[Entry]:
    """All functions, the largest first."""
    profile = cProfile.Profile()
    profile.runcall(work)
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    whole = sum(own for _, _, own, _, _ in stats.values())
    entries = (Entry(_name(*key), own, own / whole, calls) for key, (_, calls, own, _, _) in stats.items())
    return sorted(entries, key=lambda entry: -entry.seconds)


def by_operator(work: Work) -> list[Entry]:
    """All operators of torch, the largest first; none for a choice that is numpy's alone."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    events = [(event.key, event.self_cpu_time_total / 1e6, event.count) for event in profile.key_averages()]
    whole = sum(seconds for _, seconds, _ in events)
    entries = (Entry(name, seconds, seconds / whole, calls) for name, seconds, calls in events)
    return sorted(entries, key=lambda entry: -entry.seconds)


def _name(file: str, line: int, function: str) -> str:
    """Without the folders of this machine and, so that two commits compare, without the line."""
    if line == 0:
        return function
    path = Path(file)
    if path.is_relative_to(ROOT) and "site-packages" not in path.parts:
        return f"{path.relative_to(ROOT)}: {function}"
    parts = path.parts[path.parts.index("site-packages") + 1 :] if "site-packages" in path.parts else path.parts[-1:]
    return f"{'/'.join(parts)}: {function}"


def show(entries: list[Entry]) -> None:
    print(f"{sum(entry.seconds for entry in entries):.3g} s in all")
    for entry in entries[:LARGEST]:
        print(f"{100 * entry.share:5.1f} %  {entry.seconds:8.3g} s  {entry.calls:>8,} times  {entry.name}")


def result(entries: list[Entry]) -> dict[str, object]:
    numerics = resolve(choose_device("cpu"))
    return {
        "command": f"python -m benchmarks.profiles {shlex.join(sys.argv[1:])}",
        "environment": {k: v for k, v in environment(numerics).items() if k != "host"},
        "seconds": sum(entry.seconds for entry in entries),
        "entries": [asdict(entry) for entry in entries[:LARGEST]],
    }


if __name__ == "__main__":
    main()
