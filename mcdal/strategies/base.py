"""What a strategy may do: five hooks, each optional. The engine does nothing for a hook that is not overridden."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from mcdal.errors import SelectionError
from mcdal.models.base import Model
from mcdal.schedule import Optimization
from mcdal.selection import top
from mcdal.tasks.base import Task
from mcdal.values import Batch, Measurement, Metrics, Picks, Progress, Rows


@runtime_checkable
class Stateful(Protocol):
    """A network or an optimizer: anything that a checkpoint can keep."""

    def state_dict(self) -> dict[str, object]: ...

    def load_state_dict(self, state: dict[str, object]) -> object: ...


class Strategy:
    """Decides what to label next. A strategy is a dataclass: its fields are its hyper-parameters (`--set strategy.FIELD=`).

    Write one in a file of your own and use it as `--strategy my_file.py:MyStrategy`. Override what the method needs:
    `attach` to build its own networks, `extra_loss` to change the task model's loss, `step` to train its own networks,
    `measure` to give every sample a score or a vector, `select` where the largest scores are not the answer.
    """

    def attach(self, model: Model, task: Task, optimization: Optimization) -> None:
        """Called once a round, after the model is built and before it is trained. `optimization`: how the model is trained."""

    def extra_loss(self, batch: Batch, losses: Float[Tensor, " b"], progress: Progress) -> Tensor | None:
        """A scalar to add to the mean of the task's `losses`: the only hook that may change the task model."""
        return None

    def step(self, labeled: Batch, unlabeled: Batch, progress: Progress) -> None:
        """Called after each step of the task model, to train the strategy's own networks.

        labeled.output is the task model's, before its step and cut from the graph. unlabeled has neither y nor output.
        """

    def measure(self, batch: Batch) -> Measurement:
        """A score (larger: label me first) and/or a vector for each sample, from `batch.output`. Not called if not overridden."""
        return Measurement()

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        """`budget` ids among the rows that are not labeled. Default: the largest scores, ties by id."""
        if rows.score is None:
            raise SelectionError(f"{type(self).__name__} measures no score: override `measure` or `select`")
        unlabeled = rows.unlabeled()
        assert unlabeled.score is not None
        return top(unlabeled.ids, unlabeled.score, budget)

    def state(self) -> Mapping[str, Stateful]:
        """Own networks and optimizers by name, kept in every checkpoint."""
        return {}

    def metrics(self) -> Metrics:
        """What is worth recording of the strategy's own training, such as its last losses."""
        return {}

    @property
    def changes_task_model(self) -> bool:
        """Whether the task model differs from the one trained under Random: only through `extra_loss`, or where declared."""
        return overrides(self, "extra_loss")


def overrides(strategy: Strategy, hook: str) -> bool:
    """Whether this strategy has a hook of its own of that name."""
    return getattr(type(strategy), hook) is not getattr(Strategy, hook)


def own_modules(strategy: Strategy) -> list[nn.Module]:
    """The strategy's own networks, to be put into eval mode before measuring."""
    return [part for part in strategy.state().values() if isinstance(part, nn.Module)]
