"""What the engine adds to a bare loop: the data path in training, `measure` over a forward pass, and MCDAL's heads.

Bare training: the same network, batch and optimizer on one batch that is augmented and normalised already. Bare forward: the
network in eval mode on normalised tensors. Both sides of a ratio alternate in one process and are compared in process CPU time,
since wall time lies on a shared machine; the ratio is that of the medians.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/overhead.py --data CIFAR_FOLDER
"""

import argparse
import datetime
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from mcdal.environment import environment
from mcdal.measuring import measure
from mcdal.models.resnet import ResNet
from mcdal.pool.base import Pool
from mcdal.pool.cifar import Cifar
from mcdal.registry import load
from mcdal.training import Training, train

NETWORKS = {"resnet10_w8": (ResNet(10, 8), 20), "resnet10_w16": (ResNet(10, 16), 8), "resnet18_w64": (ResNet(18), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with CIFAR-10")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "overhead.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        pool = Cifar(given.data).open(Path(cache))
        found = {name: ratios(pool, *NETWORKS[name], given.repetitions) for name in given.networks}
    numerics = Training().numerics("auto")
    result = {
        "command": f"python benchmarks/overhead.py --repetitions {given.repetitions}",
        "date": datetime.date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "environment": {k: v for k, v in environment(numerics).items() if k != "host"},
        "unit": "process CPU seconds a step or an image; ratio of medians",
        "networks": found,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def ratios(pool: Pool, architecture: ResNet, steps: int, repetitions: int) -> dict[str, float]:
    """Medians over interleaved repetitions of `steps` steps each, and the ratios to the bare loops."""
    torch.manual_seed(0)
    training = Training(epochs=1, steps_per_epoch=steps)
    numerics = training.numerics("auto")
    models = [numerics.place(architecture.build(10, 3, (32, 32))) for _ in range(4)]
    labels = {id: i % 10 for i, id in enumerate(pool.images.ids[:5_000])}
    x = numerics.arrange(torch.randn(training.batch_size, 3, 32, 32))
    y = torch.arange(training.batch_size) % 10
    small = replace(pool, images=first(pool, 2 * training.measure_batch_size))
    batches = [numerics.arrange(torch.randn(training.measure_batch_size, 3, 32, 32)) for _ in range(2)]
    margin = load("strategies", "margin")()

    def ours(model: torch.nn.Module, strategy: str) -> Callable[[], object]:
        made = load("strategies", strategy)()
        return lambda: train(model, pool, labels, made, training, numerics=numerics)

    sides: dict[str, tuple[Callable[[], object], int]] = {
        "bare_step": (lambda: bare_training(models[0], x, y, training, steps), steps),
        "train_step": (ours(models[1], "random"), steps),
        "mcdal_step": (ours(models[2], "mcdal"), steps),
        "bare_forward": (lambda: bare_forward(models[3], batches), len(small)),
        "measure": (lambda: measure(models[3], small, {}, margin, numerics=numerics), len(small)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repetition in range(repetitions + 1):
        for name, (work, count) in sides.items():
            begun = time.process_time()
            work()
            if repetition:  # the first one warms up
                seconds[name].append((time.process_time() - begun) / count)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        **{f"{name}_s": value for name, value in median.items()},
        "train_over_bare": median["train_step"] / median["bare_step"],
        "measure_over_bare": median["measure"] / median["bare_forward"],
        "mcdal_over_train": median["mcdal_step"] / median["train_step"],
    }


def first(pool: Pool, n: int):  # type: ignore[no-untyped-def]
    """The first `n` images of the pool."""
    from mcdal.pool.base import ArrayImages

    return ArrayImages(pool.images.ids[:n], pool.images.pixels[:n])  # type: ignore[attr-defined]


def bare_training(model: torch.nn.Module, x: Tensor, y: Tensor, training: Training, steps: int) -> None:
    model.train()
    optimizer = training.optimization.optimizer(model.parameters())
    for _ in range(steps):
        loss = F.cross_entropy(model(x).logits, y)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()


def bare_forward(model: torch.nn.Module, batches: list[Tensor]) -> None:
    model.eval()
    with torch.inference_mode():
        for x in batches:
            model(x)


if __name__ == "__main__":
    main()
