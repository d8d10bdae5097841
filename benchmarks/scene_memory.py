"""Peak memory of training and of measuring on scenes: how far a fresh process rises above what it held before.

Two steps of training, then a pass over a pool, and over one twice as large, which should take no more: at the sizes of CamVid
and Cityscapes, with the small network and DRN-D-22, of whole images and in windows. Pixels and masks are random, since memory
does not depend on them, and are counted as held before.

    PYTHONPATH=.:benchmarks python benchmarks/scene_memory.py
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from side_by_side import RESULTS, Check, peak_megabytes, record

from mcdal.measuring import evaluate, measure
from mcdal.models.base import Architecture, Model
from mcdal.models.drn import DRN
from mcdal.models.small_segmentation import SmallSegmentation
from mcdal.pool.base import ArrayImages, LabeledView, Pool
from mcdal.pool.masks import ArrayMasks
from mcdal.registry import load
from mcdal.scenes import SceneAugment
from mcdal.strategies.base import Strategy
from mcdal.tasks.segmentation import Segmentation
from mcdal.training import Training, train

TWICE_THE_SCENES = 1.15
"""What a pass over twice as many scenes may take of that over half of them."""


class Case(NamedTuple):
    """A network with its classes, the height and width of the scenes, how many come at once, and in which windows."""

    name: str
    model: Architecture
    size: tuple[int, int]
    classes: int
    at_once: int
    window: tuple[int, int] | None = None


class Ready(NamedTuple):
    """All that is held before memory is watched."""

    model: Model
    pool: Pool
    strategy: Strategy
    training: Training


TRAINED = (
    Case("small network, 160x120, batches of 4", SmallSegmentation(), (120, 160), 11, 4),
    Case("DRN-D-22, 480x360, batches of 8", DRN(), (360, 480), 11, 8),
)
MEASURED = (
    Case("small network, 160x120, 16 at once", SmallSegmentation(), (120, 160), 11, 16),
    Case("DRN-D-22, 480x360, 4 at once", DRN(), (360, 480), 11, 4),
    Case("DRN-D-22, 2048x1024, 1 at once", DRN(), (1024, 2048), 19, 1),
    Case("DRN-D-22, 2048x1024, 1 at once, windows of 1024x512", DRN(), (1024, 2048), 19, 1, (512, 1024)),
)


def main() -> None:
    checks = []
    for case in TRAINED:
        for name in ("random", "mcdal"):
            peak = peak_megabytes(ready, learn, case, name, 2 * case.at_once)
            checks.append(Check(f"training, {name}: {case.name}", peak, None, "at most", unit="MB"))
            print(checks[-1].name, round(peak), flush=True)
    for case in MEASURED:
        half, whole = (peak_megabytes(ready, look, case, "mcdal", passes * case.at_once) for passes in (2, 4))
        checks.append(Check(f"measuring and testing, mcdal: {case.name}", whole, None, "at most", unit="MB"))
        print(checks[-1].name, round(whole), flush=True)
        twice = Check(
            f"the same, {4 * case.at_once} scenes / {2 * case.at_once}: {case.name}",
            whole / half,
            TWICE_THE_SCENES,
            "at most",
        )
        checks.append(twice)
    record(RESULTS / "scene_memory.json", "Memory on scenes", "python benchmarks/scene_memory.py", checks)


def ready(case: Case, strategy: str, scenes: int) -> Ready:
    """A new network, random scenes, and how they are trained and measured."""
    training = Training(
        epochs=1, steps_per_epoch=2, batch_size=case.at_once, unlabeled_batch_size=case.at_once,
        augment=SceneAugment(), measure_batch_size=case.at_once, window=case.window,
    )  # fmt: skip
    torch.manual_seed(0)
    model = case.model.build(case.classes, 3, case.size)
    return Ready(model, pool(case, scenes), load("strategies", strategy)(), training)


def pool(case: Case, scenes: int) -> Pool:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (scenes, *case.size, 3), dtype=np.uint8)
    masks = ArrayMasks(random.integers(0, case.classes, (scenes, *case.size), dtype=np.uint8))
    images, numbers = ArrayImages(tuple(map(str, range(scenes))), pixels), np.arange(scenes)
    names = tuple(f"class {c}" for c in range(case.classes))
    test = LabeledView(images, numbers, numbers, masks)
    return Pool(
        "random scenes", names, images, numbers, test, (0.5,) * 3, (0.25,) * 3, "random scenes",
        kind=Segmentation(names), masks=masks,
    )  # fmt: skip


def learn(given: Ready) -> None:
    labels = dict(list(given.pool.truth().items())[: given.training.batch_size])
    train(given.model, given.pool, labels, given.strategy, given.training, numerics=given.training.numerics("cpu"))


def look(given: Ready) -> None:
    """After a step on small crops, which attaches the strategy: a pass for scores and one for mean IoU."""
    numerics, training = given.training.numerics("cpu"), given.training
    small = replace(
        training, steps_per_epoch=1, batch_size=1, unlabeled_batch_size=1, augment=SceneAugment(crop=(64, 64))
    )
    labels = dict(list(given.pool.truth().items())[:1])
    train(given.model, given.pool, labels, given.strategy, small, numerics=numerics)
    how = {"numerics": numerics, "batch_size": training.measure_batch_size, "window": training.window}
    measure(given.model, given.pool, labels, given.strategy, **how)
    evaluate(given.model, given.pool, **how)


if __name__ == "__main__":
    main()
