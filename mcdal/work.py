"""A training under way: step after step, with a state that can be kept and taken up again."""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from mcdal.errors import TrainingError
from mcdal.events import Listener
from mcdal.feed import Feed
from mcdal.in_step import InStep
from mcdal.models.base import Model
from mcdal.pool.base import LabeledView
from mcdal.step import Step
from mcdal.strategies.base import Strategy
from mcdal.values import Metrics

SECONDS_BETWEEN_WORDS = 0.25
OF_TRAINING = ("train/loss", "train/accuracy")
"""What a training says of the task model, whatever the strategy."""


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


@dataclass
class Work:
    """What a step needs, and the little that changes from step to step. rate: the learning rate of a step."""

    model: Model
    strategy: Strategy
    feed: Feed
    optimizer: torch.optim.Optimizer
    rate: Callable[[int], float]
    steps: int
    steps_per_epoch: int
    seed: int
    keeper: Keeper
    listen: Listener

    def __post_init__(self) -> None:
        self.ranks = self.feed.ranks
        own = {f"strategy's {name}": part for name, part in self.strategy.state().items()}
        self.in_step = InStep(self.ranks, {"task model": self.model, "optimizer": self.optimizer, **own})
        self.step = Step(self.model, self.strategy, self.feed, self.optimizer, self.steps, self.seed, self.in_step)
        self.last_epoch: dict[str, float] = {}
        self.metrics: dict[str, float] = {}  # of the whole training, once it is over
        self.seconds_before = 0.0
        self._learns_from = learns_from(self.model, self.feed.labeled)

    def run(self) -> Trained:
        with self.in_step.kept():
            return self._run()

    def _run(self) -> Trained:
        self.begun = spoken = time.monotonic()
        first = self._continue()
        self.step.begin(first)
        for step in range(first, self.steps):
            self.step(step, self.rate(step))
            if (step + 1) % self.steps_per_epoch == 0:
                self._end_epoch(step)
            if time.monotonic() - spoken > SECONDS_BETWEEN_WORDS:
                self._say(step)
                spoken = time.monotonic()
            if step + 1 < self.steps and self.keeper.due():  # the last state is kept below, with the metrics
                self.keeper.save(self._state(step + 1))
        self.step.settle()
        self.model.eval()
        if first < self.steps:
            self.in_step.end()
            own = {name: float(value) for name, value in self.strategy.metrics().items()}
            self.metrics = {**self.last_epoch, **self.ranks.mean_of(own)}
            self.keeper.save(self._state(self.steps))
        return Trained(self.metrics, self._seconds())

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.begun

    def _end_epoch(self, step: int) -> None:
        self.last_epoch = self._so_far(step)
        self.step.sums.zero_()

    def _so_far(self, step: int) -> dict[str, float]:
        """Mean loss and accuracy of this epoch's augmented training batches; the only place where the device is waited for."""
        count, loss, right = self.step.sums.tolist()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the training loss is {loss} at step {step + 1} of {self.steps}: training stopped; all earlier "
                "rounds are kept. Try a smaller training.optimization.lr, or look for broken images"
            )
        return dict(zip(OF_TRAINING, (loss / count, right / count), strict=True)) if count else self.last_epoch

    def _say(self, step: int) -> None:
        self.listen("train", done=step + 1, total=self.steps, lr=self.rate(step), **self._so_far(step))

    def _state(self, step: int) -> dict[str, object]:
        self.step.settle()
        self._so_far(step - 1)  # a state that is not finite is not worth keeping
        own = {name: part.state_dict() for name, part in self.strategy.state().items()}
        return {
            "step": step,
            "learns_from": self._learns_from,
            "model": self.model.state_dict(),
            # Nobody goes on from a training that is over, and its momentum is as large as the model.
            "optimizer": self.optimizer.state_dict() if step < self.steps else None,
            "strategy": own,
            "epoch_sums": self.step.sums,
            "last_epoch": self.last_epoch,
            "metrics": self.metrics,
            "seconds": self._seconds(),
        }

    def _continue(self) -> int:
        """Takes up a kept state; gives the first step still to do."""
        state = self.ranks.said_by_first(self.keeper.load())
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


def learns_from(model: Model, labeled: LabeledView) -> str:
    """Digest of the labeled images, what is said of them, and how many classes there are: what a kept state goes with."""
    hashed = hashlib.blake2b(str(model.head).encode(), digest_size=16)
    for id in map(labeled.images.ids.__getitem__, labeled.positions.tolist()):
        hashed.update(id.encode("utf-8", "surrogateescape") + b"\0")
    hashed.update(np.ascontiguousarray(labeled.y).tobytes())
    return hashed.hexdigest()
