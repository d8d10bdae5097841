"""The task model on today's labels: step after step, with a state that can be kept and taken up again."""

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from mcdal.augment import Augment, Augmentation
from mcdal.device import Numerics, choose_device, resolve
from mcdal.errors import ConfigError, TrainingError
from mcdal.events import Listener, nobody
from mcdal.feed import Feed
from mcdal.models.base import Model
from mcdal.pool.base import Pool
from mcdal.schedule import Optimization
from mcdal.step import Step
from mcdal.strategies.base import Setting, Strategy, refuse_task
from mcdal.streams import own_randomness, stream
from mcdal.tasks.weights import median_frequency
from mcdal.values import Metrics

SECONDS_BETWEEN_WORDS = 0.25
OF_TRAINING = ("train/loss", "train/accuracy")
"""What a training says of the task model, whatever the strategy."""


@dataclass(frozen=True)
class Training:
    """How the task model is trained in every round, the same for every strategy."""

    epochs: int = 100
    """Number of epochs; with steps_per_epoch the number of optimizer steps, whatever the number of labels."""
    steps_per_epoch: int = 390
    """Optimizer steps an epoch: 50,000 // 128 in the published code, however few images are labeled."""
    batch_size: int = 128
    """Labeled images a step."""
    unlabeled_batch_size: int = 128
    """Unlabeled images a step, for strategies that train on them."""
    optimization: Optimization = field(default_factory=Optimization)
    """SGD and its schedule."""
    augment: Augmentation = field(default_factory=Augment)
    """Random changes of training batches: crop, flip and rotation, or scale, crop and flip of scenes."""
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """auto: bfloat16 where the device computes it natively, float32 elsewhere."""
    channels_last: bool | Literal["auto"] = "auto"
    """Memory layout of images inside the network."""
    class_weights: Literal["none", "median_frequency"] = "none"
    """median_frequency: rare classes count more in the loss, by how often today's labels show them."""
    compile: bool | Literal["auto"] = "auto"
    """torch.compile; auto: on CUDA only."""
    replay: bool | Literal["auto"] = "auto"
    """Records a training step once and replays it (CUDA graphs), where strategies allow it; auto: on CUDA."""
    measure_batch_size: int = 512
    """Images a forward pass when measuring and testing."""
    window: tuple[int, int] | None = None
    """Height and width of the windows in which large scenes are measured and tested, so that memory does not grow with them;
    null: whole images."""
    published_sampling: bool = False
    """Repeats the published sampling: augmented pool images, and no last partial batch. Only to compare."""

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "batch_size", "unlabeled_batch_size", "measure_batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training.{name} = {getattr(self, name)}: it must be at least 1")

    @property
    def steps(self) -> int:
        """Optimizer steps a round."""
        return self.epochs * self.steps_per_epoch

    def numerics(self, device: str) -> Numerics:
        """The arithmetic of this training on `device` ("auto" takes the best there is)."""
        return resolve(choose_device(device), self.precision, self.channels_last, self.compile, self.replay)

    @property
    def warmup(self) -> int:
        """Steps of the warm-up."""
        return round(self.optimization.warmup_epochs * self.steps_per_epoch)


@runtime_checkable
class Keeper(Protocol):
    """Keeps the state of a training that may be killed. `Checkpoint` in artifacts.py writes files; `Forgetful` nothing."""

    def load(self) -> dict[str, object] | None: ...

    def due(self) -> bool: ...

    def save(self, state: dict[str, object]) -> None: ...


@dataclass(frozen=True)
class Trained:
    """What a training reached. metrics: of its last epoch. seconds: at work, earlier processes included as far as they kept."""

    metrics: Metrics
    seconds: float


class Forgetful:
    """For trainings that are short, or somebody else's to repeat."""

    def load(self) -> dict[str, object] | None:
        return None

    def due(self) -> bool:
        return False

    def save(self, state: dict[str, object]) -> None:
        pass


def train(
    model: Model,
    pool: Pool,
    labels: Mapping[str, int],
    strategy: Strategy,
    training: Training | None = None,
    *,
    numerics: Numerics | None = None,
    seed: int = 0,
    keeper: Keeper | None = None,
    listen: Listener = nobody,
) -> Trained:
    """Trains `model` in place, from the weights it has, on `labels` (class index by id), and the strategy's networks beside it.

    The same seed gives the same bits on one machine, also when the work was killed and continued from `keeper`. Afterwards the
    model is in eval mode on the device of `numerics`. Raises TrainingError where the loss is not finite.
    """
    training = training or Training()
    numerics = numerics or training.numerics("auto")
    with own_randomness(), numerics.deterministic():
        feed = _attach(model, pool, labels, strategy, training, numerics, seed)
        work = _Work(model, strategy, feed, training, seed, keeper or Forgetful(), listen)
        return work.run()


def take_over(
    model: Model,
    weights: Mapping[str, Tensor],
    pool: Pool,
    labels: Mapping[str, int],
    strategy: Strategy,
    training: Training,
    *,
    numerics: Numerics,
    seed: int,
) -> None:
    """Leaves model and strategy as `train` would, without training: weights are those that it would end with (`mcdal.twins`)."""
    with own_randomness(), numerics.deterministic():
        _attach(model, pool, labels, strategy, training, numerics, seed)
        model.load_state_dict(dict(weights))
        model.eval()


def _attach(
    model: Model,
    pool: Pool,
    labels: Mapping[str, int],
    strategy: Strategy,
    training: Training,
    numerics: Numerics,
    seed: int,
) -> Feed:
    """Puts the model where it is trained and the strategy onto it; gives the batches to come."""
    if not labels:
        raise TrainingError("no labeled sample to train on: give the protocol a start of at least one sample")
    refuse_task(strategy, pool.task.name)
    if training.class_weights == "median_frequency":
        pool = replace(pool, kind=pool.task.weighing(median_frequency(pool.amounts(labels))))
    numerics.place(model)
    torch.manual_seed(stream(seed, "attach"))
    model.train()  # also for the heads that are copied from it
    sizes = training.batch_size, training.unlabeled_batch_size
    feed = Feed(pool, *pool.split(labels), *sizes, training.augment, numerics, seed)
    setting = Setting(training.optimization, *pool.shape, training.steps, numerics.place, feed.own, training.window)
    strategy.attach(model, pool.task, setting)
    return feed


@dataclass
class _Work:
    """One training under way: what a step needs, and the little that changes from step to step."""

    model: Model
    strategy: Strategy
    feed: Feed
    training: Training
    seed: int
    keeper: Keeper
    listen: Listener

    def __post_init__(self) -> None:
        optimization, steps = self.training.optimization, self.training.steps
        self.optimizer = optimization.optimizer(self.model.parameters())
        self.step = Step(self.model, self.strategy, self.feed, self.optimizer, steps, self.seed)
        self.last_epoch: dict[str, float] = {}
        self.metrics: dict[str, float] = {}  # of the whole training, once it is over
        self.seconds_before = 0.0
        self._learns_from = self._digest()

    def _digest(self) -> str:
        """Of the labeled images, what is said of them, and how many classes there are: what a kept state goes with."""
        labeled = self.feed.labeled
        hashed = hashlib.blake2b(str(self.model.head).encode(), digest_size=16)
        for id in map(labeled.images.ids.__getitem__, labeled.positions.tolist()):
            hashed.update(id.encode("utf-8", "surrogateescape") + b"\0")
        hashed.update(np.ascontiguousarray(labeled.y).tobytes())
        return hashed.hexdigest()

    def run(self) -> Trained:
        self.begun = spoken = time.monotonic()
        first = self._continue()
        self.step.begin(first)
        for step in range(first, self.training.steps):
            self.step(step, self._rate(step))
            if (step + 1) % self.training.steps_per_epoch == 0:
                self._end_epoch(step)
            if time.monotonic() - spoken > SECONDS_BETWEEN_WORDS:
                self._say(step)
                spoken = time.monotonic()
            if step + 1 < self.training.steps and self.keeper.due():  # the last state is kept below, with the metrics
                self.keeper.save(self._state(step + 1))
        self.step.settle()
        self.model.eval()
        if first < self.training.steps:
            own = {name: float(value) for name, value in self.strategy.metrics().items()}
            self.metrics = {**self.last_epoch, **own}
            self.keeper.save(self._state(self.training.steps))
        return Trained(self.metrics, self._seconds())

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.begun

    def _rate(self, step: int) -> float:
        batches = len(self.feed.labeled) // self.training.batch_size
        return self.training.optimization.rate(step, self.training.steps, self.training.warmup, batches)

    def _end_epoch(self, step: int) -> None:
        self.last_epoch = self._so_far(step)
        self.step.sums.zero_()

    def _so_far(self, step: int) -> dict[str, float]:
        """Mean loss and accuracy of this epoch's augmented training batches; the only place where the device is waited for."""
        count, loss, right = self.step.sums.tolist()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the training loss is {loss} at step {step + 1} of {self.training.steps}: training stopped; all earlier "
                "rounds are kept. Try a smaller training.optimization.lr, or look for broken images"
            )
        return dict(zip(OF_TRAINING, (loss / count, right / count), strict=True)) if count else self.last_epoch

    def _say(self, step: int) -> None:
        self.listen("train", done=step + 1, total=self.training.steps, lr=self._rate(step), **self._so_far(step))

    def _state(self, step: int) -> dict[str, object]:
        self.step.settle()
        self._so_far(step - 1)  # a state that is not finite is not worth keeping
        own = {name: part.state_dict() for name, part in self.strategy.state().items()}
        return {
            "step": step,
            "learns_from": self._learns_from,
            "model": self.model.state_dict(),
            # Nobody goes on from a training that is over, and its momentum is as large as the model.
            "optimizer": self.optimizer.state_dict() if step < self.training.steps else None,
            "strategy": own,
            "epoch_sums": self.step.sums,
            "last_epoch": self.last_epoch,
            "metrics": self.metrics,
            "seconds": self._seconds(),
        }

    def _continue(self) -> int:
        """Takes up a kept state; gives the first step still to do."""
        state = self.keeper.load()
        if state is None:
            return 0
        if state.get("learns_from", self._learns_from) != self._learns_from:
            self.listen("notice", text="labels or classes have changed since this training began: it begins again")
            return 0
        self.model.load_state_dict(state["model"])  # type: ignore[arg-type]
        if state["optimizer"] is not None:
            self.optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        for name, part in self.strategy.state().items():
            part.load_state_dict(state["strategy"][name])  # type: ignore[index]
        self.step.sums.copy_(state["epoch_sums"])  # type: ignore[arg-type]
        self.last_epoch = state["last_epoch"]  # type: ignore[assignment]
        self.metrics = state["metrics"]  # type: ignore[assignment]
        self.seconds_before = float(state["seconds"])  # type: ignore[arg-type]
        return int(state["step"])  # type: ignore[call-overload,no-any-return]
