"""What each strategy's choice costs, over a yardstick on the same rows that takes turns with it: small and quick.

Such a ratio says nearly the same on a slow machine and on a fast one, so a choice that has become several times as slow is found
without a number of seconds. The yardsticks are in `plain.py`: a product of all rows with all rows for strategies that compare
rows, a sort of all scores for those that take the largest or draw by lot, and plain loops for the others. Bounds are about twice
what was reached: they find what has become worse and claim nothing. Peers and large sizes are in `selection.py`,
`clustering.py`, `scores.py` and `posthoc.py`. What VAAL, SRAAL, LL, Ensemble and QBC cost is their training and their passes.

    OMP_NUM_THREADS=1 PYTHONPATH=. python -m benchmarks.choices
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks import plain
from benchmarks.side_by_side import Check, check, interleaved, run_alone
from mcdal.measuring import select
from mcdal.models.probe import Probe, ProbeModel
from mcdal.registry import load
from mcdal.schedule import Optimization
from mcdal.strategies.base import Setting, Strategy
from mcdal.tasks.classification import Classification
from mcdal.values import Batch, Rows

C, CENTRES, SEED = 10, 100, 0
DRAWS, COMBINATIONS = 20, 1_000
Yardstick = Callable[[Rows, int], object]


@dataclass(frozen=True)
class Case:
    """A choice of `budget` among n rows of d features. bound: how many times the yardstick it may take at most."""

    strategy: str
    beside: str
    bound: float
    n: int = 4_000
    d: int = 128
    labeled: int = 200
    budget: int = 100
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        told = "".join(f", {key} {value}" for key, value in self.settings.items())
        return f"choice of {self.strategy}{told}, {self.budget:,} of {self.n:,} x {self.d} / {self.beside}"


SCORES = {"n": 200_000, "d": 4, "labeled": 20_000, "budget": 10_000}
CASES = (
    Case("random", "a sort", 7, **SCORES),
    Case("margin", "a sort", 0.8, **SCORES),
    Case("margin", "a sort", 6.5, **SCORES, settings={"sampling": "balanced"}),
    Case("power_bald", "a sort", 10, **SCORES),
    Case("ensemble", "a sort", 10, **SCORES, settings={"score": "variation_ratio"}),
    Case("core_set", "all pairs", 1),
    Case("badge", "all pairs", 0.4),
    Case("typiclust", "all pairs", 8.5),
    Case("tcm", "all pairs", 4.6, labeled=20),
    Case("probcover", "all pairs", 4, settings={"delta": 0.9}),
    Case("max_herding", "all pairs", 10.5),
    Case("uherding", "all pairs", 9.5, settings={"held_out": 0.0}),
    Case("uherding", "all pairs", 3.2, settings={"held_out": 0.0, "bandwidth": 0.03}),
    Case("dropquery", "all pairs", 1.1),
    Case("falcun", "its distances", 1.5, n=20_000, budget=50),
    Case("alfa_mix", "one step to the anchors", 4.8),
    Case("bait", "its changes", 3.4, n=2_000, d=32, budget=20),
    Case("batch_bald", "all entropies", 0.6, n=500, d=DRAWS * C, budget=5),
    Case("daal", "an autoencoder", 8.5, n=1_000, settings={"passes": 1}),
)
DROPOUT = {"mc_dropout": 0.4, "bald": 0.4, "dropquery": 1.2}
"""Bounds of the scores that take several passes of the head."""
ELSEWHERE = {"mcdal_posthoc": "posthoc"}
"""Strategies with a choice of their own that another quick measurement looks at."""


@cache
def rows(n: int, d: int, labeled: int) -> Rows:
    """Noise about centres, whose class is their number modulo C, as a linear head sees it."""
    random = np.random.default_rng(SEED)
    group = random.integers(0, CENTRES, n)
    z = random.normal(size=(CENTRES, d)).astype(np.float32)[group] + random.standard_normal((n, d), dtype=np.float32)
    p = torch.from_numpy(z @ random.normal(size=(d, C)).astype(np.float32) / d**0.5).softmax(1)
    two = p.topk(2, 1).values
    mask = np.isin(np.arange(n), random.choice(n, labeled, replace=False))
    y = np.where(mask, group % C, -1)
    return Rows(tuple(f"{i:06d}" for i in range(n)), mask, (1 - two[:, 0] + two[:, 1]).numpy(), z, p.numpy(), y)


def given(case: Case) -> Rows:
    """The rows of a case; BatchBALD's vectors are class probabilities under draws of the weights."""
    found = rows(case.n, case.d, case.labeled)
    if case.strategy == "dropquery":  # a tenth flips
        found = Rows(found.ids, found.labeled, (np.arange(case.n) % 10 == 0).astype(np.float32), found.vector)
    if case.strategy == "batch_bald":
        assert found.vector is not None
        p = torch.from_numpy(2 * found.vector).view(case.n, DRAWS, C).softmax(2).flatten(1)
        found = Rows(found.ids, found.labeled, vector=p.numpy())
    return found


def head(d: int) -> ProbeModel:
    torch.manual_seed(SEED)
    return Probe().build(C, d, (1, 1))


def made(case: Case) -> Strategy:
    """The strategy, with a model where it asks one when it chooses."""
    kind = load("strategies", case.strategy)
    if case.strategy == "batch_bald":
        return kind(passes=DRAWS, combinations=COMBINATIONS)
    strategy: Strategy = kind(**case.settings)
    if case.strategy == "alfa_mix":
        attach(strategy, head(case.d))
    return strategy


def attach(strategy: Strategy, model: ProbeModel) -> None:
    """As a training would, without one."""
    setting = Setting(Optimization(), 1, (1, 1), 1, lambda module: module, lambda *_: iter(()))
    strategy.attach(model, Classification(tuple(map(str, range(C)))), setting)


def yardstick(case: Case, strategy: Strategy) -> Yardstick:
    if case.beside == "an autoencoder":
        latent, width, batch = (getattr(strategy, name) for name in ("latent", "width", "batch_size"))
        steps = case.settings["passes"] * -(-(case.n - case.labeled) // batch)
        return partial(plain.autoencoder, steps, batch, (*(width,) * 6, latent))
    return {
        "a sort": plain.in_order,
        "all pairs": plain.pairs,
        "its distances": plain.unlike_picks,
        "one step to the anchors": partial(plain.steps_to_anchors, head(case.d).head),
        "its changes": plain.traces,
        "all entropies": partial(plain.joint_entropies, DRAWS, COMBINATIONS),
    }[case.beside]


def choice_check(case: Case, repetitions: int) -> Check:
    table, strategy = given(case), made(case)
    beside = yardstick(case, strategy)
    sides = {
        "ours": partial(select, strategy, table, case.budget, seed=SEED),
        case.beside: partial(beside, table, case.budget),
    }
    return check(case.name, interleaved(sides, repetitions), "ours", case.beside, "at most", case.bound)


def dropout_check(name: str, bound: float, repetitions: int, n: int = 4_096, d: int = 512) -> Check:
    """Scores of one batch on a linear head under dropout, over a plain loop of as many passes."""
    strategy, model = load("strategies", name)(), head(d)
    attach(strategy, model)
    z = torch.randn(n, d)
    ids = tuple(map(str, range(n)))
    with torch.inference_mode():
        batch = Batch(ids, z[:, :, None, None], output=model(z[:, :, None, None]))
        sides = {
            "ours": partial(strategy.measure, batch),
            "a plain loop": partial(plain.under_dropout, model.head, strategy.passes, strategy.dropout, z),
        }
        seconds = interleaved(sides, repetitions)
    told = f"scores of {name}, {strategy.passes} passes, {n:,} x {d} / a plain loop"
    return check(told, seconds, "ours", "a plain loop", "at most", bound)


def measured(repetitions: int) -> Iterator[Check]:
    with threadpool_limits(1):
        yield from (choice_check(case, repetitions) for case in CASES)
        yield from (dropout_check(name, bound, repetitions) for name, bound in DROPOUT.items())


def checks(quick: bool) -> list[Check]:
    """Quick: fewer repetitions."""
    torch.set_num_threads(1)
    return list(measured(5 if quick else 15))


if __name__ == "__main__":
    run_alone("choices", "Choices over yardsticks", __doc__, checks)
