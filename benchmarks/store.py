"""What a round costs beside training and measuring: the store, the files, and Python over a large pool.

Builds, in a temporary folder, the store of a run over a pool of 1,000,000 samples with 100 rounds of 5,000 labels, its files
written by the functions that a run uses, and times what a run and the commands do with it. Process CPU time (waiting for a disk
is not in it), medians.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/store.py
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.side_by_side import RESULTS, Check, record
from mcdal import loop
from mcdal.artifacts import Artifacts
from mcdal.events import nobody
from mcdal.measuring import measure, select
from mcdal.models.base import Model
from mcdal.models.resnet import ResNet
from mcdal.oracles.simulated import Simulated
from mcdal.pool.assemble import from_arrays
from mcdal.pool.base import Pool
from mcdal.registry import load
from mcdal.selection import mask
from mcdal.status import status
from mcdal.store import RunRecord, Store
from mcdal.training import Training
from mcdal.values import Picks, Rows

RUN = "synthetic"
OPENING, STATUS, ROUND = 1.0, 1.0, 1.0
"""Seconds that opening a store, `mcdal status` and all that a round costs beside its work may take."""


@dataclass(frozen=True)
class Size:
    """How large the store is."""

    pool: int = 1_000_000
    rounds: int = 100
    budget: int = 5_000
    sessions: int = 300
    runs: int = 1


FULL = Size()
QUICK = Size(pool=100_000, rounds=20, budget=1_000, sessions=50)


def build(out: Path, size: Size) -> Pool:
    """A store with everything but the last round, and the pool of the run."""
    pool = tiny_images(size.pool)
    with closing(Store(out)) as store:
        for r in range(size.runs):
            _play(store, f"{RUN}{r or ''}", pool, size)
    return pool


def tiny_images(n: int) -> Pool:
    pixels = np.zeros((n, 1, 1, 1), dtype=np.uint8)
    targets = np.arange(n) % 10
    ids = tuple(f"train/class_{i % 10}/{i:07d}.jpg" for i in range(n))
    return from_arrays(
        "synthetic", [str(c) for c in range(10)], (ids, pixels, targets), (("t",), pixels[:1], targets[:1])
    )


def _play(store: Store, run: str, pool: Pool, size: Size) -> None:
    config = {"protocol": {"rounds": size.rounds}}
    record = RunRecord(run, "synthetic", "full", "margin", 0, {}, config, pool.classes, len(pool), pool.fingerprint, [])
    store.add_run(record)
    for _ in range(size.sessions):
        store.end_session(store.begin_session(run, {"torch": torch.__version__}), "stopped")
    for round in range(size.rounds - 1):
        play_round(store, run, pool, size, round)


def play_round(store: Store, run: str, pool: Pool, size: Size, round: int) -> None:
    """What the loop records of a round."""
    chosen = _chosen(size, round)
    ids = tuple(pool.images.ids[i] for i in chosen)
    store.begin_round(run, round, round, Picks(ids, np.linspace(1, 0, len(ids))), True, {"measure": 1.0, "select": 0.1})
    oracle = Simulated({id: i % 10 for id, i in zip(ids, chosen, strict=True)})
    oracle.ask(ids)
    store.add_labels(run, list(oracle.answers()))
    metrics = {f"test/accuracy/{c}": 0.5 for c in range(10)} | {"test/accuracy": 0.5, "test/loss": 1.0}
    store.finish_round(run, round, metrics, {"train": 10.0, "test": 1.0})


def _chosen(size: Size, round: int) -> list[int]:
    return [(i * 7_919) % size.pool for i in range(round * size.budget, (round + 1) * size.budget)]


def keep_scores(out: Path, pool: Pool, size: Size) -> None:
    """The rows that each round of a strategy with a score leaves, for the report."""
    artifacts, generator = Artifacts(out / "runs" / RUN), np.random.default_rng(0)
    labeled = np.zeros(len(pool), dtype=bool)
    for round in range(size.rounds - 1):
        picked = np.zeros(len(pool), dtype=bool)
        picked[_chosen(size, round)] = True
        if round:
            score = generator.random(len(pool), dtype=np.float32)
            artifacts.write_rows(round, Rows(pool.images.ids, labeled.copy(), score), picked)
        labeled |= picked


def timed(work: Callable[[], object], repetitions: int = 3) -> float:
    """Median process CPU seconds, those of finished child processes included."""
    found = []
    for _ in range(repetitions):
        begun = _cpu()
        work()
        found.append(_cpu() - begun)
    return statistics.median(found)


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def openings(out: Path) -> dict[str, float]:
    return {
        "open to write": timed(lambda: Store(out).close()),
        "open to read": timed(lambda: Store(out, create=False).close()),
        "status": timed(lambda: status(out)),
        "mcdal status, the command": timed(lambda: _command("status", "--out", str(out))),
        "mcdal report, the command": report(out),
    }


def report(out: Path) -> float:
    return timed(lambda: _command("report", "--out", str(out)), 1)


def _command(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "mcdal", *arguments], check=True, capture_output=True, env={**os.environ})


def a_round(out: Path, pool: Pool, size: Size) -> dict[str, float]:
    """Each part of the last round that grows with the pool or the labels; three rounds are recorded."""
    store, artifacts, model = Store(out), Artifacts(out / "runs" / RUN), ResNet().build(10, 3, (32, 32))
    last = size.rounds - 1
    seconds = {}
    try:
        seconds["labels, read first"] = timed(lambda: store.labels(RUN), 1)
        labels = store.labels(RUN)
        seconds["labels through a round"] = timed(lambda: store.labels(RUN, through=last - 1))
        seconds["labels that are missing"] = timed(lambda: store.unanswered(RUN, last - 1))
        seconds["labeled and unlabeled views"] = timed(lambda: pool.split(labels))
        random = load("strategies", "random")()
        seconds["rows of the pool"] = timed(lambda: measure(model, pool, labels, random))
        rows = measure(model, pool, labels, random)
        score = np.random.default_rng(0).random(len(pool)).astype(np.float32)
        scored = Rows(rows.ids, rows.labeled, score, y=rows.y)
        margin = load("strategies", "margin")()
        seconds["select by score, checked"] = timed(lambda: select(margin, scored, size.budget))
        picks = select(margin, scored, size.budget)
        seconds["write rows"] = timed(lambda: artifacts.write_rows(last - 1, scored, mask(picks, scored)))
        seconds["select at random, checked"] = timed(lambda: select(random, rows, size.budget))
        playing = loop.Run.__new__(loop.Run)
        playing.__dict__.update(artifacts=artifacts, store=store, id=RUN, pool=pool, listen=nobody)
        seconds["classes that have labels"] = timed(lambda: _look_at_classes(playing, labels))
        seconds["means of the scores"] = timed(lambda: playing._score_metrics(last - 1))
        seconds["write model"] = timed(lambda: artifacts.write_model(last, model))
        checkpoint, state = artifacts.checkpoint(last, 0.0), _state(model)
        seconds["checkpoint"] = timed(lambda: checkpoint.save(state))
        seconds["true labels"] = timed(pool.truth, 1)
        more = iter(range(last, last + 3))
        seconds["record a round"] = timed(lambda: play_round(store, RUN, pool, size, next(more)))
    finally:
        store.close()
    return seconds


def _look_at_classes(playing: loop.Run, labels: dict[str, int]) -> None:
    shown = playing.pool.shows(labels)
    playing._report_missing_classes(0, shown)
    loop._class_counts(shown)


def _state(model: Model) -> dict[str, object]:
    optimizer = Training().optimization.optimizer(model.parameters())
    sum(p.sum() for p in model.parameters()).backward()  # type: ignore[union-attr]
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "strategy": {}, "step": 1}


# Instead of the choice by a score and what follows from one.
AT_RANDOM, BY_SCORE = "select at random, checked", ("select by score, checked", "means of the scores")
# Done once before the first round, or not by every run.
ONCE = ("true labels", "labels, read first")
# Asked for by `learn` and, to train and to measure, by others; missing ones are looked for before and after asking.
OFTEN = {"labels through a round": 3, "labels that are missing": 2}


def total(seconds: dict[str, float]) -> float:
    """Of a round that picks by a score."""
    left_out = (*ONCE, AT_RANDOM)
    return sum(value * OFTEN.get(name, 1) for name, value in seconds.items() if name not in left_out)


def total_at_random(seconds: dict[str, float]) -> float:
    return total(seconds) - sum(seconds[name] for name in BY_SCORE) + seconds[AT_RANDOM]


def measured(size: Size) -> tuple[list[Check], dict[str, dict[str, float]]]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        pool = build(out, size)
        megabytes = (out / "mcdal.db").stat().st_size / 2**20
        opened, in_round = openings(out), a_round(out, pool, size)
        keep_scores(out, pool, size)
        opened["mcdal report, with the scores of every round"] = report(out)
    detail = f"{size.pool:,} samples, {size.rounds} rounds of {size.budget:,}, {megabytes:.0f} MB"

    def at_most(name: str, value: float, bound: float | None) -> Check:
        return Check(name, value, bound, "at most", unit="s", detail=detail)

    found = [
        at_most("opening the store to write", opened["open to write"], OPENING),
        at_most("opening the store to read", opened["open to read"], OPENING),
        at_most("status of all runs", opened["status"], STATUS),
        at_most("mcdal status, imports with it", opened["mcdal status, the command"], None),
        at_most("mcdal report, imports with it", opened["mcdal report, the command"], None),
        at_most(
            "mcdal report, with the scores of every round", opened["mcdal report, with the scores of every round"], None
        ),
        at_most("a round's fixed overhead", total(in_round), ROUND),
        at_most("a Random round's fixed overhead", total_at_random(in_round), ROUND),
    ]
    return found, {"openings_s": opened, "round_s": in_round}


def checks(quick: bool) -> list[Check]:
    """Of a tenth of the samples (quick), or of a million."""
    return measured(QUICK if quick else FULL)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples")
    parser.add_argument("--out", type=Path, default=RESULTS / "store.json")
    given = parser.parse_args()
    found, seconds = measured(QUICK if given.quick else FULL)
    command = "python benchmarks/store.py" + " --quick" * given.quick
    record(
        given.out,
        "The store and a round's fixed overhead",
        command,
        found,
        unit="process CPU seconds, medians",
        **seconds,
    )
    for name, value in {**seconds["openings_s"], **seconds["round_s"]}.items():
        print(f"     {name}: {value:.3f} s")


if __name__ == "__main__":
    main()
