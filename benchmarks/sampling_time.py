"""What choosing a batch costs (the paper's Table II): each method on the same trained model, pool and machine.

Sampling is the pass over the pool (`measure`) and the choice (`select`), in process CPU seconds, over a bare forward pass of the
same network over as many images; a training step under the method is given over one under Random. All of them take turns, and a
ratio is the median of those of the turns. Parameters count the task model and what the method trains beside it. Images are
noise: what they show changes no timing.

Choosing grows with pool x budget, a forward pass with the pool alone. So `choose_large_s` is the choice again, once, at --large
(by default the size of the paper's Table II), among the measured rows repeated with noise, and `large_over_forward` counts it
against a forward pass that is scaled up. BatchBALD and BAIT are left out there: the one refuses such batches, the other would
take days.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/sampling_time.py --pool 200 --budget 20 --large 10000 1000 500
"""

import argparse
import copy
import datetime
import itertools
import json
import os
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.side_by_side import cpu, interleaved, ratio
from mcdal.device import Numerics
from mcdal.environment import environment
from mcdal.errors import McdalError
from mcdal.measuring import measure, select
from mcdal.models.base import Model, count_parameters
from mcdal.models.resnet import ResNet
from mcdal.pool.arrays import Arrays
from mcdal.pool.base import Pool
from mcdal.registry import listed, load
from mcdal.strategies.base import Strategy, own_modules
from mcdal.strategies.batch_bald import LARGEST_BATCH
from mcdal.training import Training, train
from mcdal.values import Rows

# The paper's Table II: parameters, and seconds to choose 2,500 of 45,000 images of CIFAR-10 on a Titan Xp.
PAPER = {
    "core_set": (None, 114.73), "ll": (11.29e6, 6.53), "vaal": (34.29e6, 18.94), "sraal": (45.58e6, 20.48),
    "mcdal": (11.19e6, 7.25),
}  # fmt: skip
# Left out at the large size.
SMALL_ONLY = {"batch_bald", "bait"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=int, default=2_000, help="images")
    parser.add_argument("--labeled", type=int, default=200)
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--steps", type=int, default=1, help="training steps of a turn")
    parser.add_argument("--repetitions", type=int, default=5, help="turns")
    parser.add_argument(
        "--large", type=int, nargs=3, default=(50_000, 5_000, 2_500), metavar=("N", "LABELED", "BUDGET")
    )
    parser.add_argument("--strategies", nargs="*", default=sorted(listed("strategies")))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sampling_time.json")
    given = parser.parse_args()
    pool = noise(given.pool)
    labels = {id: i % 10 for i, id in enumerate(pool.images.ids[: given.labeled])}
    training = Training(epochs=1, steps_per_epoch=given.steps, measure_batch_size=500)
    numerics = training.numerics("auto")
    torch.manual_seed(0)
    model = ResNet().build(10, 3, (32, 32))
    rows: dict[str, Any] = {}
    for name in given.strategies:
        try:
            budget = min(given.budget, LARGEST_BATCH) if name == "batch_bald" else given.budget
            rows[name], measured, strategy = row(
                name, model, pool, labels, training, numerics, budget, given.repetitions
            )
            if name not in SMALL_ONLY:
                rows[name] |= large(measured, strategy, rows[name], len(pool), *given.large)
        except McdalError as error:
            rows[name] = {"not measured": str(error)}
        print(name, rows[name], flush=True)
    order = sorted(rows, key=lambda name: rows[name].get("sampling_over_forward", float("inf")))
    result = {
        "command": f"benchmarks/sampling_time.py --pool {given.pool} --labeled {given.labeled} --budget {given.budget} "
        f"--large {' '.join(map(str, given.large))}",
        "date": datetime.date.today().isoformat(),
        "machine": f"{cpu()}, {os.cpu_count()} cores",
        "environment": {k: v for k, v in environment(numerics).items() if k != "host"},
        "unit": f"process CPU seconds, medians of {given.repetitions} turns; ratios within the turns, and their noise as a share",
        "strategies": {name: rows[name] for name in order},
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")


def noise(n: int) -> Pool:
    random = np.random.default_rng(0)
    x, test = (random.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8) for size in (n, 20))
    return Arrays(x, np.arange(n) % 10, test, np.arange(20) % 10).open(Path())


def row(
    name: str, model: Model, pool: Pool, labels: dict[str, int], training: Training, numerics: Numerics, budget: int,
    repetitions: int,
) -> tuple[dict[str, Any], Rows, Strategy]:  # fmt: skip
    """What one method costs, its rows of the pool, and the strategy with what it trained."""
    strategy: Strategy = load("strategies", name)()
    mine, plain = (copy.deepcopy(model) for _ in range(2))
    train(mine, pool, labels, strategy, training, numerics=numerics)
    size = training.measure_batch_size
    measured = partial(measure, mine, pool, labels, strategy, numerics=numerics, batch_size=size)
    rows, seeds = measured(), itertools.count()
    seconds = interleaved(
        {
            "forward": partial(bare, mine, pool, numerics, size),
            "measure": measured,
            "select": lambda: select(strategy, rows, budget, seed=next(seeds)),
            "Random's step": partial(train, plain, pool, labels, load("strategies", "random")(), training, numerics=numerics),
            "step": partial(train, mine, pool, labels, strategy, training, numerics=numerics),
        },
        repetitions,
    )  # fmt: skip
    seconds["sampling"] = [m + s for m, s in zip(seconds["measure"], seconds["select"], strict=True)]
    sampling, step = ratio(seconds, "sampling", "forward"), ratio(seconds, "step", "Random's step")
    f, m, s = (statistics.median(seconds[side]) for side in ("forward", "measure", "select"))
    own = sum(count_parameters(module) for module in own_modules(strategy))
    found: dict[str, Any] = {
        "forward_s": round(f, 3), "measure_s": round(m, 3), "select_s": round(s, 4),
        "measure_over_forward": round(ratio(seconds, "measure", "forward")[0], 3),
        "sampling_over_forward": round(sampling[0], 3), "sampling_noise": round(sampling[1], 3),
        "step_over_random": round(step[0], 2), "step_noise": round(step[1], 3),
        "parameters": count_parameters(mine) + own, "budget": budget,
    }  # fmt: skip
    if name in PAPER:
        parameters, paper_seconds = PAPER[name]
        found |= {"paper_parameters": parameters, "paper_seconds": paper_seconds}
    return found, rows, strategy


def large(
    rows: Rows, strategy: Strategy, found: dict[str, Any], pool: int, n: int, labeled: int, budget: int
) -> dict[str, float]:
    """The choice among n rows like these, against a forward pass over as many images."""
    many = enlarged(rows, n, labeled)
    begun = time.process_time()
    select(strategy, many, budget, seed=0)
    choosing = time.process_time() - begun
    whole = found["measure_over_forward"] + choosing / (found["forward_s"] * n / pool)
    return {"choose_large_s": round(choosing, 2), "large_over_forward": round(whole, 3)}


def enlarged(rows: Rows, n: int, labeled: int) -> Rows:
    random = np.random.default_rng(0)
    place = np.arange(n) % len(rows.ids)
    columns: dict[str, Any] = {}
    for name in ("score", "vector", "probabilities"):
        column = getattr(rows, name)
        if column is None:
            continue
        more = column[place]
        more *= random.uniform(0.9, 1.1, more.shape).astype(more.dtype)
        columns[name] = more / more.sum(1, keepdims=True) if name == "probabilities" else more
    mask = np.arange(n) < labeled
    return Rows(tuple(f"{i:06d}" for i in range(n)), mask, y=np.where(mask, np.arange(n) % 10, -1), **columns)


def bare(model: Model, pool: Pool, numerics: Numerics, size: int) -> None:
    """The network over as many images as the pool has, on tensors that are ready."""
    model.eval()
    x = numerics.arrange(torch.randn(size, *(pool.shape[0], *pool.shape[1])))
    with torch.inference_mode(), numerics.autocast():
        for first in range(0, len(pool), size):
            model(x[: len(pool) - first])


if __name__ == "__main__":
    main()
