"""What a strategy may do: five hooks and a picture, each optional. The engine does nothing for a hook that is not overridden."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mcdal.checked import at_least
from mcdal.errors import ConfigError, SelectionError
from mcdal.models.base import Model
from mcdal.schedule import Optimization
from mcdal.selection import Sampling, balanced_top, most_likely, stochastic_top, top
from mcdal.selection.checks import refuse_bad_rows
from mcdal.selection.demand import Demand, Size
from mcdal.selection.top import Lottery
from mcdal.tasks.base import Task, TaskName
from mcdal.values import Batch, Measurement, Metrics, Picks, Progress, Rows

Module = TypeVar("Module", bound=nn.Module)
BOTH: tuple[TaskName, ...] = ("classification", "segmentation")
Need: TypeAlias = Literal["probabilities", "features", "labeled", "labels", "model", "training", "stages", "images"]


@runtime_checkable
class Stateful(Protocol):
    """A network or an optimizer: anything that a checkpoint can keep."""

    def state_dict(self) -> dict[str, object]: ...

    def load_state_dict(self, state: dict[str, object]) -> object: ...


@dataclass(frozen=True)
class About:
    """What a person wants to know before choosing a strategy; `docs/strategies.md` is made of it.

    needs: what it looks at. "labeled" is which samples have a label, "labels" what it says. "model" is the task model itself
    (several passes, or its head), "training" networks of its own that are trained beside the task model; a strategy with
    neither works on arrays of any model (`mcdal select`). "stages" are those of `Output`, "images" the pixels of `Batch.x`; a
    strategy with neither works on the features of a frozen encoder (`mcdal run --encoder`).
    cost: of choosing a batch, beyond one forward pass over the pool. memory: beyond the measured rows.
    """

    paper: str = ""
    needs: tuple[Need, ...] = ("probabilities",)
    cost: str = ""
    memory: str = ""
    use: str = ""
    avoid: str = ""
    tasks: tuple[TaskName, ...] = ("classification",)


@dataclass(frozen=True)
class Setting:
    """The training that a strategy is attached to: what its own networks may use.

    channels, size: of the images, size as (height, width) in pixels. steps: optimizer steps of the whole training. place:
    moves a module to the device, dtype and memory layout of the model. batches: see `labeled` and `unlabeled`. window: of
    height and width, in which images are measured; None: whole.
    """

    optimization: Optimization
    channels: int
    size: tuple[int, int]
    steps: int
    place: Callable[[nn.Module], nn.Module]
    batches: Callable[[bool, str, int, bool], Iterator[Batch]]
    window: tuple[int, int] | None = None

    def labeled(self, purpose: str, first: int, whole: bool = False) -> Iterator[Batch]:
        """Augmented labeled batches without output, endlessly, in an order of this purpose's own, from batch `first` on.

        For a method that needs more, or other, batches than the task model gets. Call it at the first `step` with that step's
        number (times the batches a step): a continued training then goes on where it was.

        Where several processes train together, each gets its part of every batch, and `whole` the whole of it.
        """
        return self.batches(True, purpose, first, whole)

    def unlabeled(self, purpose: str, first: int, whole: bool = False) -> Iterator[Batch]:
        """As `labeled`, of the unlabeled samples; the batches have no `y`."""
        return self.batches(False, purpose, first, whole)

    def like(self, model: Model) -> Float[Tensor, "2 c h w"]:
        """Two black images as the model takes them, to find the shapes of what it gives: `model.forward(...)` inside `aside`."""
        weight = next(model.parameters())
        return torch.zeros(2, self.channels, *self.size, dtype=weight.dtype, device=weight.device)


class Strategy:
    """Decides what to label next. A strategy is a dataclass: its fields are its hyper-parameters (`--set strategy.FIELD=`).

    Write one in a file of your own and use it as `--strategy my_file.py:MyStrategy`. Override what the method needs:
    `attach` to build its own networks, `extra_loss` to change the task model's loss, `step` to train its own networks,
    `measure` to give every sample a score or a vector, `select` where the largest scores are not the answer.
    """

    about: ClassVar[About] = About()
    replayable: ClassVar[bool] = False
    """Whether `step` launches the same work on the device every time, so that it can be recorded and replayed on CUDA: it looks
    at no id and no number of a step, sets rates by `set_rate` alone, never waits for a result and returns nothing."""

    def __post_init__(self) -> None:
        """Where a strategy checks its fields: ConfigError naming `strategy.FIELD`."""

    def attach(self, model: Model, task: Task, setting: Setting) -> None:
        """Called once a round, after the model is built and before it is trained."""

    def extra_loss(self, batch: Batch, losses: Float[Tensor, " b"], progress: Progress) -> Tensor | None:
        """A scalar to add to the mean of the task's `losses`: the only hook that may change the task model."""
        return None

    def step(self, labeled: Batch, unlabeled: Batch, progress: Progress) -> None:
        """Called after each step of the task model, to train the strategy's own networks.

        labeled.output is the task model's, before its step and cut from the graph. unlabeled has neither y nor output.
        """

    def measure(self, batch: Batch) -> Measurement:
        """A score (larger: label me first), a vector and/or class probabilities for each sample, from `batch.output`.

        Not called if not overridden.
        """
        return Measurement()

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        """`budget` ids among the rows that are not labeled. Default: the largest scores, ties by id."""
        return top(rows.ids, _score(self, rows), budget, rows.free())

    def demand(self, size: Size) -> Demand:
        """What `select` needs for a choice of this size, so that a larger one is made in parts (`mcdal.selection.search`).

        Default: a few numbers a row, as for methods that read vectors in parts; these are never approximated.
        """
        return Demand(bytes=64.0 * size.n, products=0.0)

    def heat(self, batch: Batch) -> Float[Tensor, "b h w"] | None:
        """Of masks, for pictures alone: where in each image it sees what it picks by. Default: a score that has a place.

        Asked of some picks after they are chosen; None where there is nothing to see. It changes nothing.
        """
        score = self.measure(batch).score if overrides(self, "measure") else None
        return score if score is not None and score.ndim == 3 else None

    def state(self) -> Mapping[str, Stateful]:
        """Own networks and optimizers by name, kept in every checkpoint.

        Where several processes train together, each calls the hooks with its part of the batches, and these networks stay equal:
        their optimizers step down the mean gradient. So all of them are here when `attach` returns.
        """
        return {}

    def seeds(self) -> Mapping[str, int | float]:
        """Numbers that `attach` or `step` found, that `measure` depends on, and that no field and no network holds.

        What an earlier process measured by others is then measured again.
        """
        return {}

    def metrics(self) -> Metrics:
        """What is worth recording of the strategy's own training, such as its last losses."""
        return {}

    @property
    def needs(self) -> tuple[Need, ...]:
        """What it looks at as its fields are set: `about.needs`, or less."""
        return self.about.needs

    @property
    def changes_task_model(self) -> bool:
        """Whether the task model differs from the one trained under Random: only through `extra_loss`, or where declared."""
        return overrides(self, "extra_loss")


@dataclass(kw_only=True)
class Scored(Strategy):
    """A strategy that picks by its score: the largest, the largest of each class, or by lot in proportion to it."""

    sampling: Sampling = "top"
    """top: the largest scores. power, softmax, softrank: by lot without replacement, in proportion to score^beta,
    exp(beta score) or rank^-beta (Kirsch et al. 2023), so that a large batch is not all of one kind. balanced: the largest of
    each predicted class in turn; for classification."""
    beta: float = 1.0
    """How sharply the lot follows the score: 0 is Random, infinity is top."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "strategy", 0, "beta")

    def scored(self, score: Float[Tensor, "b *space"], batch: Batch) -> Measurement:
        """What `measure` gives: the score, with class probabilities where the choice asks for them."""
        if self.sampling != "balanced":
            return Measurement(score=score)
        assert batch.output is not None
        return Measurement(score=score, probabilities=batch.output.logits.softmax(1))

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        return self.choose(rows, _score(self, rows), budget, seed)

    def choose(self, rows: Rows, score: Float[np.ndarray, " n"], budget: int, seed: int) -> Picks:
        """Of the rows without a label, by this score of all rows, as `sampling` says."""
        if self.sampling != "balanced":
            return stochastic_top(rows.ids, score, budget, seed, self.sampling, self.beta, rows.free())
        if rows.probabilities is None:
            raise SelectionError(
                f"{type(self).__name__} measures no class probabilities: for strategy.sampling = balanced its `measure` must "
                "return self.scored(score, batch)"
            )
        refuse_bad_rows(rows)
        return balanced_top(rows.ids, score, most_likely(rows.probabilities), budget, rows.free())

    @property
    def needs(self) -> tuple[Need, ...]:
        also: tuple[Need, ...] = ("probabilities",) if self.sampling == "balanced" else ()
        return tuple(dict.fromkeys([*super().needs, *also]))


@dataclass(frozen=True)
class Beside(Strategy):
    """What mixes samples into the batches of a strategy (`Config.easy`, `Config.rare`): it may pick fewer than are asked for."""

    def wanted(self, classes: int) -> bool:
        """Whether there may be any. classes: how many the pool has now."""
        return True


def refuse_task(strategy: Strategy, task: TaskName) -> None:
    """ConfigError where the strategy is not meant for this task."""
    if task not in strategy.about.tasks:
        able = " and ".join(strategy.about.tasks)
        raise ConfigError(
            f"strategy = {type(strategy).__name__}: it is for {able}, and this is {task}; docs/strategies.md says which can do it"
        )
    if task == "segmentation" and getattr(strategy, "sampling", None) == "balanced":
        raise ConfigError(
            f"strategy.sampling = balanced: it is for classification, and this is {task}; power draws by lot"
        )


def _score(strategy: Strategy, rows: Rows) -> Float[np.ndarray, " n"]:
    if rows.score is None:
        raise SelectionError(f"{type(strategy).__name__} measures no score: override `measure` or `select`")
    return rows.score


def overrides(strategy: Strategy, hook: str) -> bool:
    """Whether this strategy has a hook of its own of that name."""
    return getattr(type(strategy), hook) is not getattr(Strategy, hook)


def picks_the_largest(strategy: Strategy) -> bool:
    """Whether the picks are the largest scores and nothing else."""
    hook = type(strategy).select
    return hook is Strategy.select or (hook is Scored.select and getattr(strategy, "sampling", "top") == "top")


def draws_by_lot(strategy: Strategy) -> tuple[Lottery, float] | None:
    """How it draws by lot from its scores, with its beta; None where it looks at more than scores."""
    if type(strategy).select is not Scored.select:
        return None
    assert isinstance(strategy, Scored)
    return None if strategy.sampling == "balanced" else (strategy.sampling, strategy.beta)


def own_modules(strategy: Strategy) -> list[nn.Module]:
    """The strategy's own networks, to be put into eval mode before measuring."""
    return [part for part in strategy.state().values() if isinstance(part, nn.Module)]
