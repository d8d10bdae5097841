"""Small networks trained for benchmarks/posthoc.py, each with several MCDALs beside it that differ by their initial heads alone.

MCDAL leaves the task model as it is, so one training serves them all: sets of heads whose losses are added are trained by SGD as
each would be by its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mcdal.discrepancy import discrepancy
from mcdal.measuring import evaluate, measure
from mcdal.models.base import Model
from mcdal.models.resnet import ResNet
from mcdal.pool.base import Pool
from mcdal.pool.cifar import Cifar
from mcdal.pool.idx import FASHION_MNIST, Idx
from mcdal.strategies.base import Setting
from mcdal.strategies.mcdal import MCDAL
from mcdal.streams import numpy_generator
from mcdal.tasks.base import Task
from mcdal.training import Training, train
from mcdal.values import Batch, Measurement, Output, Rows

LABELS = 5_000
POOLS: dict[str, Callable[[Path, Path], Pool]] = {
    "cifar10": lambda data, cache: Cifar(data, classes=10).open(cache),
    "fashion_mnist": lambda data, cache: Idx(data, classes=FASHION_MNIST).open(cache),
}
STEPS = {"cifar10": 1_200, "fashion_mnist": 800}

Joint: TypeAlias = Float[np.ndarray, "s n"]


@dataclass
class Several(MCDAL):
    """`sets` MCDALs with `heads` heads each; the score is their mean."""

    sets: int = 4

    def attach(self, model: Model, task: Task, setting: Setting) -> None:
        self.each, self.heads = self.heads, self.heads * self.sets
        super().attach(model, task, setting)

    def measure(self, batch: Batch) -> Measurement:
        assert batch.output is not None
        each = self.by_set(batch.output)
        kept = torch.cat([batch.output.features.float(), each.T], 1)
        return Measurement(vector=kept, probabilities=batch.output.logits.float().softmax(1))

    def by_set(self, output: Output) -> Float[Tensor, "s b"]:
        p = output.logits.detach().float().softmax(1)
        own = self._heads(output.features).softmax(2)
        return torch.stack([discrepancy([p, *heads], self.distance) for heads in own.split(self.each)])

    def _discrepancy(self, output: Output) -> Float[Tensor, " b"]:
        return self.by_set(output).sum(0)


@dataclass(frozen=True)
class Kept:
    """A trained model's rows, the joint heads' scores by set, and its test accuracy."""

    rows: Rows
    joint: Joint
    accuracy: float


def trained(name: str, data: Path, work: Path, seed: int = 0, sets: int = 4) -> Kept:
    """Trains on the first call and keeps what came out in `work`."""
    path = work / f"posthoc_{name}_{seed}_{sets}.npz"
    if not path.exists():
        _train(name, data, work, seed, sets, path)
    kept = np.load(path)
    rows = Rows(
        tuple(kept["ids"].tolist()),
        kept["labeled"],
        vector=kept["vector"],
        probabilities=kept["probabilities"],
        y=kept["y"],
    )
    return Kept(rows, kept["joint"], float(kept["accuracy"]))


def _train(name: str, data: Path, work: Path, seed: int, sets: int, path: Path) -> None:
    pool = POOLS[name](data, work / "cache")
    assert pool.targets is not None
    chosen = numpy_generator(seed, "posthoc", "start").choice(len(pool), LABELS, replace=False)
    labels = {pool.images.ids[i]: int(pool.targets[i]) for i in chosen}
    training = Training(epochs=10, steps_per_epoch=STEPS[name] // 10)
    numerics = training.numerics("cpu")
    torch.manual_seed(seed)
    image = pool.images.pixels[0]  # type: ignore[attr-defined]
    model = ResNet(10, 16).build(10, image.shape[2], image.shape[:2])
    strategy = Several(sets=sets)
    train(model, pool, labels, strategy, training, numerics=numerics, seed=seed)
    rows = measure(model, pool, labels, strategy, numerics=numerics)
    assert rows.vector is not None
    accuracy = evaluate(model, pool, numerics=numerics)["test/accuracy"]
    np.savez(
        path, ids=np.array(rows.ids), labeled=rows.labeled, vector=rows.vector[:, :-sets], joint=rows.vector[:, -sets:].T,
        probabilities=rows.probabilities, y=rows.y, accuracy=accuracy,
    )  # fmt: skip
