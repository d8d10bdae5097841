"""What a run will do and how long it will take, from a few real steps on this machine."""

import copy
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from mcdal.console import duration
from mcdal.device import Numerics
from mcdal.events import Listener, nobody
from mcdal.features import check_file, read_features
from mcdal.measuring import evaluate
from mcdal.models.base import Model
from mcdal.plan import Plan
from mcdal.pool.base import Pool
from mcdal.processes import Processes
from mcdal.strategies.base import Strategy, overrides
from mcdal.streams import own_randomness, stream
from mcdal.training import Training, processes_for, train
from mcdal.warm_start import StartWeights

SECONDS = 1.0
"""How long steps are timed, within these numbers of them."""
FEWEST_STEPS, MOST_STEPS = 4, 50
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
    seconds_encoding: float = 0.0
    """Of the features of a frozen encoder, where they are not kept yet."""

    @property
    def seconds(self) -> float:
        return self.seconds_encoding + self.seconds_training + self.seconds_measuring


def estimate(plan: Plan, out: Path, device: str, listen: Listener = nobody) -> Estimate:
    """Reads the images (decoded ones stay in `out/cache`), times a few steps, and records nothing."""
    config = plan.config
    if config.features is not None:
        check_file(config.features)
    numerics = config.training.numerics(device)
    pool, encoding = config.expect(out / "cache", numerics, listen)
    if config.features is not None:  # only to tell now what is wrong with them
        read_features(config.features, pool.images.originals)
    weights = None if config.weights is None else StartWeights.read(config.weights)
    sizes = config.protocol.sizes(len(pool))
    with own_randomness():
        torch.manual_seed(stream(plan.seed, "init"))
        model = config.model.build(len(pool.classes), *pool.shape)
        if weights is not None:
            weights.into(model)
    strategy = copy.deepcopy(config.strategy)
    with processes_for(config.training, numerics) as processes:
        a_step = _seconds_a_step(model, pool, strategy, config.training, numerics, sizes[0], processes)
    an_image = _seconds_an_image(model, pool, config.training, numerics)
    measured = len(pool) * (len(sizes) - 1) if overrides(strategy, "measure") else 0
    steps = config.training.steps
    return Estimate(
        plan.run_id, type(config.model).__name__, sum(p.numel() for p in model.parameters()), len(pool), len(pool.test),
        len(pool.classes), [sum(sizes[: i + 1]) for i in range(len(sizes))], steps, str(numerics.device),
        numerics.precision, a_step * steps * len(sizes), an_image * (measured + len(pool.test) * len(sizes)),
        [*config.notes, *pool.notes], encoding,
    )  # fmt: skip


def _seconds_a_step(
    model: Model,
    pool: Pool,
    strategy: Strategy,
    training: Training,
    numerics: Numerics,
    start: int,
    processes: Processes,
) -> float:
    """Of training, beyond what beginning one costs: workers that start, kernels that are compiled."""
    # What the labels are does not matter to the time that a step takes.
    labels = {id: i % len(pool.classes) for i, id in enumerate(sorted(pool.images.ids)[:start])}

    def seconds(steps: int) -> float:
        short = replace(training, epochs=1, steps_per_epoch=steps)
        return train(model, pool, labels, strategy, short, numerics=numerics, processes=processes).seconds

    seconds(1)  # warms up
    beginning = seconds(1)
    steps = max(FEWEST_STEPS, min(MOST_STEPS, round(SECONDS / beginning)))
    whole = seconds(1 + steps)
    return (whole - beginning if whole > beginning else whole) / steps


def _seconds_an_image(model: Model, pool: Pool, training: Training, numerics: Numerics) -> float:
    """Of a forward pass, warmed up."""
    test, batch = pool.test, training.measure_batch_size

    def seconds(images: int) -> float:
        few = replace(pool, test=replace(test, positions=test.positions[:images], y=test.y[:images]))
        begun = time.monotonic()
        evaluate(model, few, numerics=numerics, batch_size=batch, window=training.window)
        return time.monotonic() - begun

    images = min(FORWARD_BATCHES * batch, len(test))
    seconds(min(batch, images))
    return seconds(images) / images


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
        "time": f"about {duration(found.seconds)}: {duration(found.seconds_training)} training, "
        f"{duration(found.seconds_measuring)} measuring and testing"
        + (f", {duration(found.seconds_encoding)} encoding images, once" if found.seconds_encoding else ""),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    for note in found.notes:
        table.add_row("note", note)
    Console(highlight=False, markup=False).print(table)
