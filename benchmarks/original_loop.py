"""Images a second of the training loop that the paper started from, and of ours, side by side.

The original loop, in plain torch and torchvision: a `DataLoader` whose workers crop, flip, rotate and normalise one Pillow
image at a time, float32, a gradient norm read and a line logged at every step. Ours: `train` with its defaults on the device.
Same network, batch and optimizer. Wall time, the device waited for at both ends; the sides take turns, and the first turn of
each (worker start, compilation) does not count. Stops in time for `--minutes`, and writes what it has after every turn.

On a CPU the network decides, and the ratio is told, not judged; there a turn has 4 steps and the loader one worker, if nothing
else is said. `make bench` has a small network, no worker, and process CPU time in place of the clock's: it is judged.

    PYTHONPATH=. python benchmarks/original_loop.py --noise 10000 --device cuda --minutes 4
    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/original_loop.py --device cpu
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.side_by_side import RESULTS, Check, check, interleaved, record
from mcdal.models.resnet import ResNet
from mcdal.pool.assemble import from_arrays
from mcdal.pool.base import ArrayImages, Pool
from mcdal.pool.cifar import Cifar
from mcdal.registry import load
from mcdal.schedule import set_rate
from mcdal.training import Training, train

log = logging.getLogger("original loop")
FASTER_ON_CUDA = 4.0
"""What is asked of an H100 and better; on a CPU the network itself decides, and the ratio is told, not judged."""
SMALL_ON_CPU = 1.2
"""What the original loop must take of our time for a small network, where its one-by-one images count most."""
STEPS, WORKERS = {"cpu": 4, "cuda": 100}, {"cpu": 1, "cuda": 4}
"""A turn's steps and the loader's workers, by the kind of the device, where nobody says otherwise."""


TITLES = {
    kind: f"Training against the loop that the paper started from, on a {unit}"
    for kind, unit in (("cpu", "CPU"), ("cuda", "GPU"))
}


@dataclass(frozen=True)
class Given:
    """What both sides train: images with labels, a network, on a device."""

    pool: Pool
    labels: dict[str, int]
    architecture: ResNet
    training: Training
    device: str
    workers: int

    @property
    def steps(self) -> int:
        return self.training.steps


class Pictures(Dataset[tuple[Tensor, int]]):
    """One Pillow image at a time, as torchvision's CIFAR10 gives them."""

    def __init__(self, pixels: np.ndarray, targets: list[int], transform: Callable[[Image.Image], Tensor]):
        self._pixels, self._targets, self._transform = pixels, targets, transform

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._pixels[index])), self._targets[index]


class Original:
    """The published loop. Its workers live on between turns, so that their start is not counted against it."""

    def __init__(self, given: Given):
        from torchvision import transforms

        self._given = given
        self._device = torch.device(given.device)
        steps = [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(15),
            transforms.ToTensor(),
            transforms.Normalize(given.pool.mean, given.pool.std),
        ]
        images = given.pool.images
        assert isinstance(images, ArrayImages)
        positions = [given.pool.position(id) for id in given.labels]
        pictures = Pictures(images.pixels[positions], list(given.labels.values()), transforms.Compose(steps))
        self._loader = DataLoader(
            pictures, given.training.batch_size, shuffle=True, num_workers=given.workers, drop_last=True,
            pin_memory=self._device.type == "cuda", persistent_workers=given.workers > 0,
        )  # fmt: skip
        self._batches = self._endless()
        self._model = build(given).to(self._device)
        self._optimizer = given.training.optimization.optimizer(self._model.parameters())
        self._loss = nn.CrossEntropyLoss()

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self._loader

    def __call__(self) -> None:
        self._model.train()
        for step in range(self._given.steps):
            x, y = (part.to(self._device) for part in next(self._batches))
            set_rate(self._optimizer, 0.01)
            self._optimizer.zero_grad()
            loss = self._loss(self._model(x).logits, y)
            loss.backward()
            norm = sum(float(p.grad.norm(2)) ** 2 for p in self._model.parameters() if p.grad is not None) ** 0.5
            self._optimizer.step()
            log.info("step %d loss %.4f lr %.5f gradient norm %.4f", step, loss.item(), 0.01, norm)


class Ours:
    """`train` as a user calls it, a fresh call every turn."""

    def __init__(self, given: Given):
        self._given = given
        self._numerics = given.training.numerics(given.device)
        self._model = build(given)
        self._strategy = load("strategies", "random")()

    def __call__(self) -> None:
        train(
            self._model, self._given.pool, self._given.labels, self._strategy, self._given.training,
            numerics=self._numerics,
        )  # fmt: skip


def build(given: Given) -> nn.Module:
    torch.manual_seed(0)
    return given.architecture.build(len(given.pool.classes), *given.pool.shape)


def noise(n: int) -> Pool:
    """Synthetic images: what they show changes no timing."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (n + 16, 32, 32, 3), dtype=np.uint8)
    targets = np.arange(n + 16) % 10
    ids = tuple(f"noise/{i:06d}" for i in range(n + 16))
    return from_arrays(
        "noise", [str(c) for c in range(10)], (ids[:n], pixels[:n], targets[:n]), (ids[n:], pixels[n:], targets[n:])
    )


def measured(given: Given, repetitions: int, minutes: float, tell: Callable[[dict[str, list[float]]], None]) -> None:
    """Images a second of each turn, side by side; `tell` hears them after every pair of turns."""
    end = time.monotonic() + 60 * minutes
    speed: dict[str, list[float]] = {"original": [], "ours": []}
    sides: dict[str, Callable[[], None]] = {"original": Original(given), "ours": Ours(given)}
    longest = 0.0
    for repetition in range(repetitions + 1):
        begun = time.monotonic()
        for name, work in sides.items():
            seconds = timed(work, given.device)
            if repetition:  # the first turn starts workers and compiles
                speed[name].append(given.steps * given.training.batch_size / seconds)
        if repetition:
            longest = max(longest, time.monotonic() - begun)
            tell(speed)
        if time.monotonic() + longest > end and repetition:
            print(f"the {minutes:g} minutes are over after {repetition} of {repetitions} turns", flush=True)
            return


def timed(work: Callable[[], None], device: str) -> float:
    """Wall seconds, the device waited for at both ends."""
    wait(device)
    begun = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - begun


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def compared(speed: dict[str, list[float]], device: str) -> Check:
    ours, original = (statistics.median(speed[name]) for name in ("ours", "original"))
    within = sorted(a / b for a, b in zip(speed["ours"], speed["original"], strict=True))
    noise = (within[-1] - within[0]) / 2 / (ours / original)
    bound = FASTER_ON_CUDA if device.startswith("cuda") else None
    detail = f"ours {ours:.0f}, the original loop {original:.0f} images a second"
    return Check(f"training over the original loop, {device}", ours / original, bound, "at least", noise, detail=detail)


def given_for(pool: Pool, device: str, steps: int, workers: int, architecture: ResNet, labeled: int) -> Given:
    labels = {id: i % len(pool.classes) for i, id in enumerate(pool.images.ids[:labeled])}
    training = Training(epochs=1, steps_per_epoch=steps)
    training = replace(training, batch_size=min(training.batch_size, len(labels)))
    return Given(pool, labels, architecture, training, device, workers)


def checks(quick: bool) -> list[Check]:
    """The small network on the CPU (quick), or the paper's on the best device."""
    if quick:
        return [small_check()]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    given = given_for(noise(2_000), device, STEPS[device], WORKERS[device], ResNet(), 1_500)
    found: list[Check] = []

    def keep(speed: dict[str, list[float]]) -> None:
        found[:] = [compared(speed, device)]

    measured(given, 3, 1.5, keep)
    return found


def small_check(architecture: ResNet | None = None, steps: int = 10, repetitions: int = 3) -> Check:
    """Process CPU time on the CPU, where both sides make their batches in this process."""
    given = given_for(noise(2_000), "cpu", steps, 0, architecture or ResNet(10, 8), 1_500)
    seconds = interleaved({"original": Original(given), "ours": Ours(given)}, repetitions)
    name = "ResNet-10 of width 8 on a CPU, no worker: the original loop / ours, CPU time"
    return check(name, seconds, "original", "ours", "at least", SMALL_ON_CPU)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", type=Path, help="folder with CIFAR-10; without it --noise")
    parser.add_argument("--noise", type=int, default=10_000, metavar="N", help="synthetic images instead")
    parser.add_argument("--labeled", type=int, default=5_000)
    parser.add_argument("--steps", type=int, help="optimizer steps a turn")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--workers", type=int, help="of the original loop's loader")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--depth", type=int, default=18)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--out", type=Path, help="results/original_loop_gpu.json, or _cpu.json on a CPU")
    given = parser.parse_args()
    kind = "cuda" if given.device.startswith("cuda") else "cpu"
    given.steps = STEPS[kind] if given.steps is None else given.steps
    given.workers = WORKERS[kind] if given.workers is None else given.workers
    given.out = given.out or RESULTS / f"original_loop_{'gpu' if kind == 'cuda' else kind}.json"
    logging.basicConfig(filename=tempfile.mktemp(suffix=".log"), level=logging.INFO)
    with tempfile.TemporaryDirectory() as cache:
        pool = Cifar(given.data).open(Path(cache)) if given.data else noise(given.noise)
        both = given_for(
            pool, given.device, given.steps, given.workers, ResNet(given.depth, given.width), given.labeled  # type: ignore[arg-type]
        )  # fmt: skip
        gpu = torch.cuda.get_device_name() if kind == "cuda" else None
        options: dict[str, Any] = {k: v for k, v in vars(given).items() if k not in ("out", "data")}
        command = "python benchmarks/original_loop.py " + " ".join(
            f"--{name} {value}" for name, value in options.items() if value is not None
        )

        def keep(speed: dict[str, list[float]]) -> None:
            numerics = str(both.training.numerics(given.device))
            record(
                given.out, TITLES[kind], command, [compared(speed, given.device)],
                unit="images a second, wall time", gpu=gpu, ours=numerics, images_per_second=speed,
            )  # fmt: skip

        measured(both, given.repetitions, given.minutes, keep)


if __name__ == "__main__":
    main()
