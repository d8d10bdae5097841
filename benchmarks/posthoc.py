"""MCDAL's heads trained post hoc: how long a fit takes, whether it converges, and how steady its scores are beside joint heads'.

Speed: `select` on 50,000 x 512 features with 5,000 labels, on one thread, in process CPU seconds scaled to a core that multiplies
1024 x 512 by 512 x 256 at 100 GFLOP/s: such a product is timed beside each measurement. Quick measures a few passes and counts
them up.

Steadiness (`--steadiness POOL=FOLDER ...`, minutes): a ResNet-10 of width 16 on 5,000 labels with four MCDALs beside it that
differ by their initial heads alone (posthoc_models.py), and post-hoc heads on its features. Spearman's rank correlation over the
unlabeled images, and the share of common picks in the top 5 %, between two fits: within a method (other seeds), between the
methods, after fewer passes and after 400, with other settings, and with products in bfloat16 and in float32. A fit's sets are
independent: the score of `pairs` = k is the mean of the first k of eight.

On a GPU (`--device cuda`): wall seconds of `select` where the rows were measured there, alone, into a file of its own.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/posthoc.py [--quick] [--steadiness cifar10=FOLDER fashion_mnist=IDX_FOLDER]
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr

from benchmarks.posthoc_models import trained
from benchmarks.side_by_side import RESULTS, Check, record, show
from mcdal.networks.posthoc_fit import Features
from mcdal.strategies.mcdal_posthoc import Fit, MCDALPosthoc
from mcdal.values import Batch, Output, Rows

N, D, LABELED, BUDGET = 50_000, 512, 5_000, 2_500
BOUNDS = {(10, 1): 10.0, (10, 4): None, (100, 1): 12.0, (100, 4): None}
"""CPU seconds of all passes by classes and pairs."""
ROUND = 39_000
"""Training steps of a round at the paper's scale."""
PASSES = 100
PAIRS, SEEDS, SHARE = (1, 2, 4, 8), 3, 0.05
FEWER, MANY = (25, 50, 100), 400
VARIANTS = {
    "weight decay 5e-4": MCDALPosthoc(pairs=SEEDS, weight_decay=5e-4),
    "lr 3, weight decay 3e-5": MCDALPosthoc(pairs=SEEDS, lr=3.0, weight_decay=3e-5),
    "weight decay 1e-5": MCDALPosthoc(pairs=SEEDS, weight_decay=1e-5),
    "features as they are, the paper's lr .1 and weight decay 5e-4": MCDALPosthoc(
        pairs=SEEDS, standardize=False, lr=0.1, weight_decay=5e-4
    ),
}
"""Their fits share the batches: one fit with as many sets as there are seeds."""

Scores: TypeAlias = Float[np.ndarray, " u"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--steadiness", nargs="*", default=[], metavar="POOL=FOLDER")
    parser.add_argument("--work", type=Path, default=Path("/tmp"), help="keeps the trained models' rows")
    parser.add_argument("--device", default="cpu", help="cuda: the time of a fit there, and nothing else")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.device != "cpu":
        there = checks_there(torch.device(given.device))
        out = given.out or RESULTS / "posthoc_gpu.json"
        record(out, "MCDAL's heads post hoc, on a GPU", f"benchmarks/posthoc.py --device {given.device}", there)
        return
    torch.set_num_threads(1)
    out = given.out or RESULTS / "posthoc.json"
    found: dict[str, Any] = {}
    for name, folder in (pool.split("=", 1) for pool in given.steadiness):
        found[name] = steadiness(name, Path(folder), given.work)
        print(name, json.dumps(found[name], indent=1), flush=True)
    before = json.loads(out.read_text())["pools"] if out.exists() else {}
    made = checks(given.quick)
    if given.quick and not found:
        show(made)
    else:
        record(out, "MCDAL's heads post hoc", "benchmarks/posthoc.py", made, pools=before | found)


def checks(quick: bool) -> list[Check]:
    """The time of a fit, and as a share of a round's training on the same processor."""
    sizes = [size for size in BOUNDS if not quick or BOUNDS[size] is not None]
    made = [_speed(*size, passes=4 if quick and size[0] == 100 else PASSES) for size in sizes]
    step = json.loads((RESULTS / "overhead.json").read_text())["medians"]["resnet18_w64"]["memory"]["train, s"]
    share = made[0].value / (ROUND * step)
    return [*made, Check("fit / training of a round, one core", share, 0.03, "at most", made[0].noise, "times")]


def checks_there(device: torch.device) -> list[Check]:
    """The time of `select` on that device by classes and pairs, and as a share of a round's training on an H100."""
    seconds = {size: _seconds_there(*size, device) for size in BOUNDS}
    of_a_round = json.loads((RESULTS / "gpu_round.json").read_text())["rounds"][0]["seconds"]["train"]
    made = []
    for (classes, pairs), (first, *others) in seconds.items():
        value, name = statistics.median(others), f"{classes} classes, pairs={pairs}"
        noise = (max(others) - min(others)) / 2 / value
        made.append(
            Check(f"{PASSES} passes, {name}", value, None, "at most", noise, "s", f"{first:.3g} s the first time")
        )
        made.append(Check(f"select / training of a round, {name}", value / of_a_round, 0.03, "at most", noise))
    return made


def _seconds_there(classes: int, pairs: int, device: torch.device, repetitions: int = 4) -> list[float]:
    """By the clock, after a batch of two rows was measured there. It ends when the scores are back."""
    given, strategy, seconds = table(classes), MCDALPosthoc(pairs=pairs, passes=PASSES), []
    zeros = torch.zeros(2, 2, device=device)
    strategy.measure(Batch(("a", "b"), zeros[:, :, None, None], output=Output(zeros, zeros)))
    for _ in range(repetitions):
        begun = time.perf_counter()
        strategy.select(given, BUDGET, 0)
        seconds.append(time.perf_counter() - begun)
    return seconds


def _speed(classes: int, pairs: int, passes: int) -> Check:
    """CPU seconds of all passes; if fewer are made, counted up from what they take beyond one."""
    given, seconds = table(classes), {}
    rates = [rate()]
    for count in (1, 1, passes):  # the first warms up
        strategy = MCDALPosthoc(pairs=pairs, passes=count)
        begun = time.process_time()
        strategy.select(given, BUDGET, 0)
        seconds[count] = time.process_time() - begun
        rates.append(rate())
    a_pass = (seconds[passes] - seconds[1]) / (passes - 1)
    raw, gflops = seconds[1] + (PASSES - 1) * a_pass, statistics.mean(rates)
    noise = 0.1 + (max(rates) - min(rates)) / gflops  # what the products do not show: memory that others use
    detail = f"{raw:.3g} s as measured, {1000 * a_pass:.3g} ms a pass, at {gflops:.0f} GFLOP/s"
    name = f"{PASSES} passes, {classes} classes, pairs={pairs}"
    return Check(name, raw * gflops / 100, BOUNDS[classes, pairs], "at most", noise, "s", detail)


def table(classes: int) -> Rows:
    """Features as a rectifier gives them, around one centre a class, and probabilities that favour it."""
    random = np.random.default_rng(0)
    y = random.integers(0, classes, N)
    centres = random.normal(size=(classes, D)).astype(np.float32) / 2
    vector = np.maximum(random.normal(size=(N, D)).astype(np.float32) + centres[y], 0)
    p = (random.dirichlet(np.ones(classes), N).astype(np.float32) + np.eye(classes, dtype=np.float32)[y]) / 2
    labeled = np.zeros(N, dtype=bool)
    labeled[random.choice(N, LABELED, replace=False)] = True
    ids = tuple(f"{i:06d}" for i in range(N))
    return Rows(ids, labeled, vector=vector, probabilities=p, y=np.where(labeled, y, -1))


def rate(repetitions: int = 30) -> float:
    """GFLOP/s of this thread now."""
    a, b = torch.randn(1024, 512), torch.randn(512, 256)
    a @ b
    begun = time.process_time()
    for _ in range(repetitions):
        a @ b
    return repetitions * 2 * 1024 * 512 * 256 / 1e9 / (time.process_time() - begun)


def steadiness(name: str, data: Path, work: Path) -> dict[str, Any]:
    kept = trained(name, data, work)
    joint = list(kept.joint[:, ~kept.rows.labeled])
    by_seed = [by_set(kept.rows, MCDALPosthoc(pairs=max(PAIRS)), seed)[0] for seed in range(SEEDS)]
    posthoc = {f"pairs={k}": [sets[:k].mean(0) for sets in by_seed] for k in PAIRS}
    for how, strategy in VARIANTS.items():
        posthoc[f"pairs=1, {how}"] = list(by_set(kept.rows, strategy, 0)[0])
    coarse, exact = (
        by_set(kept.rows, MCDALPosthoc(pairs=1, precision=how), 0)[0][0] for how in ("bfloat16", "float32")
    )
    return {
        "test_accuracy": kept.accuracy,
        "unlabeled": len(joint[0]),
        "within": {m: agreement(combinations(s, 2)) for m, s in {"joint": joint, **posthoc}.items()},
        "with joint": {m: agreement(product(s, joint)) for m, s in posthoc.items()},
        "mean_l_dis": {m: float(np.mean(s)) for m, s in {"joint": joint, **posthoc}.items()},
        "bfloat16 and float32": agreement([(coarse, exact)]),
        "convergence": convergence(kept.rows),
        "convergence of variants": {how: converged(kept.rows, strategy) for how, strategy in VARIANTS.items()},
    }


def convergence(rows: Rows) -> dict[str, Any]:
    """After fewer passes and after many, from the same start."""
    fits = {passes: by_set(rows, MCDALPosthoc(pairs=1, passes=passes), 0) for passes in (*FEWER, MANY)}
    return {
        str(passes): agreement([(score[0], fits[MANY][0][0])])
        | {"l_dis": fitted.by_pass[-1], "change": fitted.change, "by_tenth": fitted.by_pass[:: max(1, passes // 10)]}
        for passes, (score, fitted) in fits.items()
    }


def converged(rows: Rows, strategy: MCDALPosthoc) -> dict[str, float]:
    """After all passes and after many, from the same start."""
    fits = (replace(strategy, pairs=1, passes=passes) for passes in (PASSES, MANY))
    few, many = (by_set(rows, fit, 0)[0][0] for fit in fits)
    return agreement([(few, many)])


def by_set(rows: Rows, strategy: MCDALPosthoc, seed: int) -> tuple[Float[np.ndarray, "s u"], Fit]:
    """The discrepancy of unlabeled rows by each set of heads, and how the fit went."""
    assert rows.vector is not None and rows.probabilities is not None and rows.y is not None
    labeled, unlabeled = np.flatnonzero(rows.labeled), np.flatnonzero(~rows.labeled)
    features = Features.of(rows.vector, rows.probabilities, np.arange(len(rows.ids)), strategy.standardize)
    heads = strategy._fit(features, labeled, rows.y, unlabeled, seed)
    assert strategy.fitted is not None
    with torch.no_grad():
        parts = np.array_split(unlabeled, 1 + len(unlabeled) // 8_192)
        return torch.cat([heads.discrepancy(*features[part]) for part in parts]).T.numpy(), strategy.fitted


def agreement(couples: Iterable[tuple[Scores, Scores]]) -> dict[str, float]:
    """Means over these couples of fits."""
    found = list(_agreements(couples))
    rank, common = (float(np.mean(column)) for column in zip(*found, strict=True))
    return {"rank_correlation": round(rank, 4), "common_picks": round(common, 4), "couples": len(found)}


def _agreements(couples: Iterable[tuple[Scores, Scores]]) -> Iterator[tuple[float, float]]:
    for one, two in couples:
        budget = round(SHARE * len(one))
        first, second = (set(np.argsort(-score, kind="stable")[:budget].tolist()) for score in (one, two))
        yield float(spearmanr(one, two).statistic), len(first & second) / budget


if __name__ == "__main__":
    main()
