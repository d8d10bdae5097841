"""What the strategies share that ask the same network under several draws of its weights by dropout."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mcdal.models.base import Model
from mcdal.networks.dropout import MonteCarloDropout
from mcdal.strategies.base import Setting, Strategy
from mcdal.tasks.base import Task
from mcdal.values import Batch, Progress


@dataclass
class ByDropout(Strategy):
    """Trains with dropout and draws with it. `draws(batch)` is for `measure`."""

    passes: int = 25
    """T, the number of draws of the weights."""
    dropout: float | None = 0.5
    """Rate of dropout on the features before the head, in training and in the T passes; null: the model's own Dropout layers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._draws = MonteCarloDropout(self.passes, self.dropout)

    def attach(self, model: Model, task: Task, setting: Setting) -> None:
        self._draws.attach(model, task)

    def extra_loss(self, batch: Batch, losses: Tensor, progress: Progress) -> Tensor | None:
        return self._draws.extra_loss(batch, losses)

    def draws(self, batch: Batch) -> Float[Tensor, "t b c *space"]:
        """p_t, t = 1 ... T: class probabilities under each draw."""
        return self._draws.probabilities(batch)

    @property
    def changes_task_model(self) -> bool:
        return self.dropout is not None
