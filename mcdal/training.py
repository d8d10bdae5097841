"""The task model on today's labels. Calls `extra_loss` and `step`; knows no strategy by name."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from mcdal.augment import Augment, normalize
from mcdal.device import Numerics, choose_device, resolve, sent
from mcdal.errors import ConfigError, TrainingError
from mcdal.events import Listener, nobody
from mcdal.models.base import Model
from mcdal.pool.base import LabeledView, Pool, Positions, UnlabeledView
from mcdal.replay import Replayed
from mcdal.schedule import Optimization, set_rate
from mcdal.strategies.base import Setting, Strategy, overrides
from mcdal.streams import numpy_generator, own_randomness, reseed, stream
from mcdal.values import Batch, Ids, Metrics, Progress

SECONDS_BETWEEN_WORDS = 0.25

Raw: TypeAlias = tuple[Ids, Tensor, Tensor | None]  # ids, images as they were read, labels


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
    augment: Augment = field(default_factory=Augment)
    """Random crop, flip and rotation of training batches."""
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """auto: bfloat16 where the device computes it natively, float32 elsewhere."""
    channels_last: bool | Literal["auto"] = "auto"
    """Memory layout of images inside the network."""
    compile: bool | Literal["auto"] = "auto"
    """torch.compile; auto: on CUDA only."""
    replay: bool | Literal["auto"] = "auto"
    """Records a training step once and replays it (CUDA graphs), where strategies allow it; auto: on CUDA."""
    measure_batch_size: int = 512
    """Images a forward pass when measuring and testing."""
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


def endless(n: int, batch_size: int, seed: int, start: int = 0) -> Iterator[Positions]:
    """Batches from permutation after permutation of range(n), from batch number `start` on, without drawing the earlier ones.

    Every index comes equally often whatever n is: a batch may run from one permutation into the next.
    """
    held: dict[int, Positions] = {}
    for batch in range(start, 2**62):
        first = batch * batch_size
        passes, within = np.divmod(np.arange(first, first + batch_size), n)
        held = {p: held[p] if p in held else shuffled(n, seed, p) for p in np.unique(passes).tolist()}
        yield np.concatenate([held[p][within[passes == p]] for p in held])


def shuffled(n: int, seed: int, number: int) -> Positions:
    """The permutation of one pass over the data."""
    return numpy_generator(seed, "pass", number).permutation(n)


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
    if not labels:
        raise TrainingError("no labeled sample to train on: give the protocol a start of at least one sample")
    with own_randomness(), numerics.deterministic():
        numerics.place(model)
        torch.manual_seed(stream(seed, "attach"))
        model.train()  # also for the heads that are copied from it
        feed = _Feed(pool, *pool.split(labels), training, numerics, seed)
        strategy.attach(model, pool.task, feed.setting())
        work = _Work(model, strategy, feed, training, numerics, seed, keeper or Forgetful(), listen)
        return work.run()


@dataclass(frozen=True)
class _Feed:
    """Batches of the labeled and the unlabeled samples, for the task model and for the strategy's own networks."""

    pool: Pool
    labeled: LabeledView
    unlabeled: UnlabeledView
    training: Training
    numerics: Numerics
    seed: int

    def setting(self) -> Setting:
        channels, size = self.pool.shape
        place = self.numerics.place
        return Setting(self.training.optimization, channels, size, self.training.steps, place, self._own)

    def raw(self, labeled: bool, purpose: str, first: int) -> Iterator[Raw]:
        """Batches as they were read, endlessly, from batch number `first` of the order of this purpose on."""
        view: LabeledView | UnlabeledView = self.labeled if labeled else self.unlabeled
        size = self.training.batch_size if labeled else self.training.unlabeled_batch_size
        if len(view) == 0:
            return
        seed = stream(self.seed, "order", purpose)
        # Two equal streams of positions: one runs ahead in the workers, one says what has arrived.
        ahead = (view.positions[chosen] for chosen in endless(len(view), size, seed, first))
        device = self.numerics.device
        for chosen, x in zip(endless(len(view), size, seed, first), view.images.batches(ahead, device), strict=True):
            ids = tuple(map(view.images.ids.__getitem__, view.positions[chosen].tolist()))
            y = sent(torch.from_numpy(view.y[chosen]), device) if isinstance(view, LabeledView) else None
            yield ids, x, y

    def augmented(self, ids: Ids, x: Tensor, y: Tensor | None, drawn: Tensor) -> Batch:
        """drawn: by `augment.draw`."""
        moved = self.training.augment.moved(x, drawn)
        return Batch(ids, self.numerics.arrange(normalize(moved, self.pool.mean, self.pool.std)), y)

    def _own(self, labeled: bool, purpose: str, first: int) -> Iterator[Batch]:
        """What `Setting.labeled` and `Setting.unlabeled` promise. Augmented with the random numbers of the hook that asks."""
        raw = self.raw(labeled, f"own {purpose}", first)
        while True:
            with own_randomness():  # starting a loader's workers draws random numbers
                batch = next(raw, None)
            if batch is None:
                return
            yield self.augmented(*batch, self.training.augment.draw(batch[1]))


@dataclass
class _Work:
    """One training under way: what a step needs, and the little that changes from step to step."""

    model: Model
    strategy: Strategy
    feed: _Feed
    training: Training
    numerics: Numerics
    seed: int
    keeper: Keeper
    listen: Listener

    def __post_init__(self) -> None:
        self.task = self.feed.pool.task
        self.optimizer = self.training.optimization.optimizer(self.model.parameters())
        self.steps_strategy = overrides(self.strategy, "step") and len(self.feed.unlabeled) > 0
        # Sums over the present epoch: number of steps, loss and right answers.
        self.epoch_sums = torch.zeros(3, dtype=self.numerics.wide, device=self.numerics.device)
        device = self.numerics.device
        self.ids: Ids = ()
        self.progress = Progress(0, self.training.steps, 0.0)
        self.labeled: Batch
        self.learn: Callable[..., Batch] = self._learn
        self.follow: Callable[..., None] = self._follow
        self.lr = torch.zeros((), device=device) if self.numerics.replay else None
        # What joins the loss may look at anything, at the step's number for one.
        if self.numerics.replay and not overrides(self.strategy, "extra_loss"):
            self.learn = Replayed(self._learn, device)
            if self.strategy.replayable:
                self.follow = Replayed(self._follow, device)
        self.last_epoch: dict[str, float] = {}
        self.metrics: dict[str, float] = {}  # of the whole training, once it is over
        self.seconds_before = 0.0

    def run(self) -> Trained:
        self.begun = spoken = time.monotonic()
        first = self._continue()
        batches, others = self.feed.raw(True, "labeled", first), self.feed.raw(False, "unlabeled", first)
        for step in range(first, self.training.steps):
            self._step(step, batches, others)
            if (step + 1) % self.training.steps_per_epoch == 0:
                self._end_epoch(step)
            if time.monotonic() - spoken > SECONDS_BETWEEN_WORDS:
                self._say(step)
                spoken = time.monotonic()
            if step + 1 < self.training.steps and self.keeper.due():  # the last state is kept below, with the metrics
                self.keeper.save(self._state(step + 1))
        self.model.eval()
        if first < self.training.steps:
            own = {name: float(value) for name, value in self.strategy.metrics().items()}
            self.metrics = {**self.last_epoch, **own}
            self.keeper.save(self._state(self.training.steps))
        return Trained(self.metrics, self._seconds())

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.begun

    def _step(self, step: int, batches: Iterator[Raw], others: Iterator[Raw]) -> None:
        self.progress = Progress(step, self.training.steps, self._rate_there(step))
        self.ids, x, y = next(batches)  # before the seed is set: starting a loader's workers draws random numbers
        # A replayed step gives the batch of its recording, whose tensors are filled anew; the ids are not.
        self.labeled = replace(self.learn(x, y, self._drawn(x, "task", step)), ids=self.ids)
        if self.steps_strategy:
            self.ids, x, _ = next(others)
            self.follow(x, self._drawn(x, "strategy", step))

    def _drawn(self, x: Tensor, purpose: str, step: int) -> Tensor:
        """How to augment this batch. The random numbers of this purpose and step begin here."""
        reseed(stream(self.seed, purpose, step))
        return sent(self.training.augment.draw(x), self.numerics.device)

    def _learn(self, x: Tensor, y: Tensor, drawn: Tensor) -> Batch:
        """A step of the task model; gives its batch and what it said, cut from the graph."""
        set_rate(self.optimizer, self.progress.lr)
        labeled = self.feed.augmented(self.ids, x, y, drawn)
        with self.numerics.autocast():
            output = self.model(labeled.x)
            losses = self.task.losses(output, y)
            extra = self.strategy.extra_loss(labeled.with_output(output), losses, self.progress)
        loss = losses.mean() if extra is None else losses.mean() + extra
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self._count(loss.detach(), output.logits.detach(), y)
        return labeled.with_output(output.detach())

    def _follow(self, x: Tensor, drawn: Tensor) -> None:
        """A step of the strategy's own networks, beside that of the task model."""
        unlabeled = self.feed.augmented(self.ids, x, None, drawn)
        with self.numerics.autocast():
            self.strategy.step(self.labeled, unlabeled, self.progress)

    def _rate_there(self, step: int) -> float | Tensor:
        """The learning rate where it is needed: a replayed step reads it from the device."""
        return self._rate(step) if self.lr is None else self.lr.fill_(self._rate(step))

    def _rate(self, step: int) -> float:
        batches = len(self.feed.labeled) // self.training.batch_size
        return self.training.optimization.rate(step, self.training.steps, self.training.warmup, batches)

    def _count(self, loss: Tensor, logits: Tensor, y: Tensor) -> None:
        right = (logits.argmax(1) == y).to(self.numerics.wide).mean()
        self.epoch_sums += torch.stack([torch.ones_like(right), loss.to(right.dtype), right])

    def _end_epoch(self, step: int) -> None:
        self.last_epoch = self._so_far(step)
        self.epoch_sums.zero_()

    def _so_far(self, step: int) -> dict[str, float]:
        """Mean loss and accuracy of this epoch's augmented training batches; the only place where the device is waited for."""
        count, loss, right = self.epoch_sums.tolist()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the training loss is {loss} at step {step + 1} of {self.training.steps}: training stopped; all earlier "
                "rounds are kept. Try a smaller training.optimization.lr, or look for broken images"
            )
        return {"train/loss": loss / count, "train/accuracy": right / count} if count else self.last_epoch

    def _say(self, step: int) -> None:
        self.listen("train", done=step + 1, total=self.training.steps, lr=self._rate(step), **self._so_far(step))

    def _state(self, step: int) -> dict[str, object]:
        self._so_far(step - 1)  # a state that is not finite is not worth keeping
        own = {name: part.state_dict() for name, part in self.strategy.state().items()}
        return {
            "step": step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "strategy": own,
            "epoch_sums": self.epoch_sums,
            "last_epoch": self.last_epoch,
            "metrics": self.metrics,
            "seconds": self._seconds(),
        }

    def _continue(self) -> int:
        """Takes up a kept state; gives the first step still to do."""
        state = self.keeper.load()
        if state is None:
            return 0
        self.model.load_state_dict(state["model"])  # type: ignore[arg-type]
        self.optimizer.load_state_dict(state["optimizer"])  # type: ignore[arg-type]
        for name, part in self.strategy.state().items():
            part.load_state_dict(state["strategy"][name])  # type: ignore[index]
        self.epoch_sums.copy_(state["epoch_sums"])  # type: ignore[arg-type]
        self.last_epoch = state["last_epoch"]  # type: ignore[assignment]
        self.metrics = state["metrics"]  # type: ignore[assignment]
        self.seconds_before = float(state["seconds"])  # type: ignore[arg-type]
        return int(state["step"])  # type: ignore[call-overload,no-any-return]
