"""The task model on today's labels, in this process or in several that train together."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, is_dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from mcdal.augment import Augment, Augmentation
from mcdal.device import Numerics, choose_device, resolve
from mcdal.errors import ConfigError, TrainingError
from mcdal.events import Listener, nobody
from mcdal.feed import Feed
from mcdal.models.base import Model
from mcdal.pool.base import Pool
from mcdal.process_group import in_group
from mcdal.processes import Processes
from mcdal.ranks import ALONE, Ranks
from mcdal.schedule import Optimization
from mcdal.strategies.base import Setting, Strategy, refuse_task
from mcdal.streams import own_randomness, stream
from mcdal.tasks.weights import median_frequency
from mcdal.work import Forgetful, Keeper, Trained, Work, learns_from


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
    """torch.compile; auto: on CUDA with one process only."""
    replay: bool | Literal["auto"] = "auto"
    """Records a training step once and replays it (CUDA graphs), where strategies allow it; auto: on CUDA with one process."""
    measure_batch_size: int = 512
    """Images a forward pass when measuring and testing."""
    window: tuple[int, int] | None = None
    """Height and width of the windows in which large scenes are measured and tested, so that memory does not grow with them;
    null: whole images."""
    processes: int | Literal["auto"] = 1
    """Processes that train together, each on its part of every batch, on a GPU each; auto: as many as there are GPUs."""
    published_sampling: bool = False
    """Repeats the published sampling: augmented pool images, and no last partial batch. Only to compare."""

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "batch_size", "unlabeled_batch_size", "measure_batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training.{name} = {getattr(self, name)}: it must be at least 1")
        if self.processes != "auto":
            if self.processes < 1:
                raise ConfigError(f"training.processes = {self.processes}: it must be at least 1, or auto")
            self.refuse_uneven(self.processes)

    @property
    def steps(self) -> int:
        """Optimizer steps a round."""
        return self.epochs * self.steps_per_epoch

    def numerics(self, device: str) -> Numerics:
        """The arithmetic of this training on `device` ("auto" takes the best there is)."""
        return resolve(choose_device(device), self.precision, self.channels_last, self.compile, self.replay)

    def rate(self, step: int, labeled: int) -> float:
        """The learning rate of a step. labeled: how many images are."""
        return self.optimization.rate(step, self.steps, self.warmup, labeled // self.batch_size)

    def processes_on(self, device: torch.device) -> int:
        """How many processes train together where this one is on `device`. ConfigError where that cannot be had."""
        gpus = torch.cuda.device_count() - (device.index or 0) if device.type == "cuda" else 0
        count = max(1, gpus) if self.processes == "auto" else self.processes
        if count > 1 and device.type not in ("cpu", "cuda"):
            raise ConfigError(f"training.processes = {count}: on {device.type} there is one; use cuda or cpu")
        if device.type == "cuda" and count > gpus:
            raise ConfigError(f"training.processes = {count}: from {device} on there are {gpus} GPUs; use auto")
        self.refuse_uneven(count)
        return count

    def refuse_uneven(self, processes: int) -> None:
        """ConfigError where so many processes cannot take equal parts of a batch, or not train together."""
        if processes > 1 and self.replay is True:
            raise ConfigError("training.replay = true: steps are replayed by one process alone; use auto")
        for name in ("batch_size", "unlabeled_batch_size"):
            if getattr(self, name) % processes:
                raise ConfigError(
                    f"training.{name} = {getattr(self, name)}: {processes} processes (training.processes) take equal parts "
                    f"of it; give a multiple of {processes}"
                )

    @property
    def warmup(self) -> int:
        """Steps of the warm-up."""
        return round(self.optimization.warmup_epochs * self.steps_per_epoch)


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
    processes: Processes | None = None,
) -> Trained:
    """Trains `model` in place, from the weights it has, on `labels` (class index by id), and the strategy's networks beside it.

    The same seed gives the same bits on one machine, also when the work was killed and continued from `keeper`. Afterwards the
    model is in eval mode on the device of `numerics`. Raises TrainingError where the loss is not finite.

    In a process group of torch's (torchrun, Ray Train) this process is one of its ranks: each calls it with the same, and rank
    0 alone uses keeper and listen. Without one `training.processes` are started here; processes: kept from call to call.
    """
    training = training or Training()
    numerics = numerics or training.numerics("auto")
    ranks, rest = Ranks.here(numerics.device), (labels, strategy, training)
    if ranks.size > 1:
        first = ranks.rank == 0
        return _train(
            model, pool, *rest, numerics, seed, (first and keeper) or Forgetful(), listen if first else nobody, ranks
        )

    def mine() -> Trained:
        here = Ranks.here(numerics.device)  # by then in a group
        return _train(model, pool, *rest, numerics, seed, keeper or Forgetful(), listen, here)

    count = 1 if in_group() else training.processes_on(numerics.device)
    if count == 1:
        return mine()
    given = {
        "model": model,
        "labels": labels,
        "masks": {} if pool.masks is None else pool.masks.told(labels.values()),
        "strategy": replace(strategy) if is_dataclass(strategy) else strategy,
        "training": training,
        "numerics": numerics,
        "seed": seed,
    }
    with nullcontext(processes) if processes is not None else Processes(count) as several:
        return several.call(mine, _as_rank, {"pool": pool}, given, numerics.device)


def processes_for(training: Training, numerics: Numerics) -> Processes:
    """What `train` may be given for several trainings, so that other processes start once. To be used in a `with` block."""
    return Processes(training.processes_on(numerics.device))


def _as_rank(
    pool: Pool,
    model: Model,
    labels: Mapping[str, int],
    masks: Mapping[int, str],
    strategy: Strategy,
    training: Training,
    numerics: Numerics,
    seed: int,
) -> None:
    """What another process does: it ends with the same networks, of which those of rank 0 are kept.

    masks: what the pool's masks were told for these labels, as they may be newer than the pool.
    """
    if pool.masks is not None:
        pool.masks.hear(masks)
    numerics = numerics.of_rank(Ranks.here(numerics.device).rank)
    train(model, pool, labels, strategy, training, numerics=numerics, seed=seed)


def _train(
    model: Model, pool: Pool, labels: Mapping[str, int], strategy: Strategy, training: Training, numerics: Numerics, seed: int,
    keeper: Keeper, listen: Listener, ranks: Ranks,
) -> Trained:  # fmt: skip
    training.refuse_uneven(ranks.size)
    if (
        ranks.size > 1
    ):  # not recorded; compiled only where that is asked for: messages between processes cut it into pieces
        numerics = replace(numerics, replay=False, compile=numerics.compile and training.compile is True)
    with own_randomness(), numerics.deterministic(), ranks.together():
        feed = _attach(model, pool, labels, strategy, training, numerics, seed, ranks)
        optimizer = training.optimization.optimizer(model.parameters())
        rate = partial(training.rate, labeled=len(feed.labeled))
        steps = training.steps, training.steps_per_epoch
        return Work(model, strategy, feed, optimizer, rate, *steps, seed, keeper, listen).run()


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


def is_end(
    state: Mapping[str, object], model: Model, pool: Pool, labels: Mapping[str, int], training: Training
) -> bool:
    """Whether a kept state is that of the end of this training, on these labels."""
    now = learns_from(model, pool.labeled(labels))
    return state["step"] == training.steps and state.get("learns_from", now) == now


def arrive(
    model: Model,
    pool: Pool,
    labels: Mapping[str, int],
    strategy: Strategy,
    training: Training,
    state: dict[str, object],
    *,
    numerics: Numerics,
    seed: int,
) -> Trained:
    """Leaves model and strategy as the training did, wherever it was made, of whose end (`is_end`) this is the state."""
    assert is_end(state, model, pool, labels, training)
    alone = replace(training, processes=1)
    return _train(model, pool, labels, strategy, alone, numerics, seed, _Kept(state), nobody, ALONE)


@dataclass(frozen=True)
class _Kept(Forgetful):
    state: dict[str, object]

    def load(self) -> dict[str, object]:
        return self.state


def _attach(
    model: Model,
    pool: Pool,
    labels: Mapping[str, int],
    strategy: Strategy,
    training: Training,
    numerics: Numerics,
    seed: int,
    ranks: Ranks = ALONE,
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
    feed = Feed(pool, *pool.split(labels), *sizes, training.augment, numerics, seed, ranks)
    setting = Setting(training.optimization, *pool.shape, training.steps, numerics.place, feed.own, training.window)
    strategy.attach(model, pool.task, setting)
    return feed
