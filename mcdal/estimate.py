"""What a run will do and how long it will take, from a few real steps on this machine."""

import copy
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from mcdal.loop import Plan
from mcdal.measuring import evaluate
from mcdal.pool.base import LabeledView
from mcdal.selection import at_random
from mcdal.strategies.base import overrides
from mcdal.streams import own_randomness
from mcdal.training import train

STEPS = 4
FORWARD_BATCHES = 2


@dataclass(frozen=True)
class Estimate:
    """A plan in numbers. Seconds are of the whole run, extrapolated from a few steps."""

    run_id: str
    model: str
    parameters: int
    pool: int
    test: int
    classes: int
    labels: list[int]
    steps_a_round: int
    device: str
    precision: str
    seconds_training: float
    seconds_measuring: float
    notes: list[str]

    @property
    def seconds(self) -> float:
        return self.seconds_training + self.seconds_measuring


def estimate(plan: Plan, out: Path, device: str) -> Estimate:
    """Reads the images (decoded ones stay in `out/cache`), times a few steps, and records nothing."""
    config = plan.config
    pool = config.source.open(out / "cache")
    sizes = config.protocol.sizes(len(pool))
    numerics = config.training.numerics(device)
    with own_randomness():
        torch.manual_seed(plan.seed)
        model = config.model.build(len(pool.classes), *pool.shape)
    strategy = copy.deepcopy(config.strategy)
    start = at_random(pool.images.ids, sizes[0], plan.seed).ids
    # What the labels are does not matter to the time that a step takes.
    labels = {id: i % len(pool.classes) for i, id in enumerate(start)}
    few = replace(config.training, epochs=1, steps_per_epoch=STEPS)
    train(model, pool, labels, strategy, replace(few, steps_per_epoch=1), numerics=numerics)
    a_step = train(model, pool, labels, strategy, few, numerics=numerics).seconds / STEPS
    batch = config.training.measure_batch_size
    shown = LabeledView(
        pool.test.images, pool.test.positions[: FORWARD_BATCHES * batch], pool.test.y[: FORWARD_BATCHES * batch]
    )
    begun = time.monotonic()
    evaluate(model, replace(pool, test=shown), numerics=numerics, batch_size=batch)
    an_image = (time.monotonic() - begun) / len(shown)
    passes = len(pool) * (len(sizes) - 1) if overrides(strategy, "measure") else 0
    return Estimate(
        plan.run_id, type(config.model).__name__, sum(p.numel() for p in model.parameters()), len(pool), len(pool.test),
        len(pool.classes), [sum(sizes[: i + 1]) for i in range(len(sizes))], config.training.steps, str(numerics.device),
        numerics.precision, a_step * config.training.steps * len(sizes), an_image * (passes + len(pool.test) * len(sizes)),
        [*config.notes, *pool.notes],
    )  # fmt: skip


def show(found: Estimate, as_json: bool) -> None:
    """The estimate for a person, or as JSON."""
    if as_json:
        print(json.dumps({**asdict(found), "seconds": found.seconds}))  # noqa: T201
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    rows = {
        "run": found.run_id,
        "images": f"{found.pool:,} in the pool, {found.test:,} for the test, {found.classes} classes",
        "labels": ", ".join(f"{n:,}" for n in found.labels),
        "model": f"{found.model}, {found.parameters:,} parameters",
        "training": f"{found.steps_a_round:,} steps a round on {found.device} in {found.precision}",
        "time": f"about {_duration(found.seconds)}: {_duration(found.seconds_training)} training, "
        f"{_duration(found.seconds_measuring)} measuring and testing",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    for note in found.notes:
        table.add_row("note", note)
    Console(highlight=False).print(table)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
