"""What the strategies share that ask several networks, trained side by side."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from mcdal.errors import ConfigError, SelectionError
from mcdal.models.base import Model
from mcdal.networks.committee import Committee
from mcdal.strategies.base import Scored, Setting, Stateful
from mcdal.tasks.base import Task
from mcdal.values import Batch, Metrics, Progress


@dataclass
class ByCommittee(Scored):
    """Trains the other members beside the task model. `votes(batch)` is for `measure`."""

    members: int = 5
    """M, the task model included."""
    _committee: Committee | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.members < 2:
            raise ConfigError(f"strategy.members = {self.members}: at least 2 members are needed to disagree")

    def attach(self, model: Model, task: Task, setting: Setting) -> None:
        self._committee = Committee(
            model, task, self.members, setting.optimization, setting.place, setting.labeled, setting.window
        )

    def step(self, labeled: Batch, unlabeled: Batch, progress: Progress) -> None:
        assert self._committee is not None
        self._committee.step(progress)

    def votes(self, batch: Batch) -> Float[Tensor, "m b c *space"]:
        """p_m, m = 1 ... M: class probabilities of each member."""
        if self._committee is None:
            who = type(self).__name__
            raise SelectionError(f"{who} has no committee yet: train with this object first (`train` attaches it)")
        return self._committee.probabilities(batch)

    def state(self) -> Mapping[str, Stateful]:
        return {} if self._committee is None else self._committee.state()

    def metrics(self) -> Metrics:
        return {} if self._committee is None else self._committee.metrics()
