"""What the strategies share that ask the same network under several draws of its weights by dropout."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mcdal.errors import ConfigError
from mcdal.models.base import Model
from mcdal.networks.dropout import MonteCarloDropout
from mcdal.strategies.base import Setting, Strategy
from mcdal.tasks.base import Task
from mcdal.uncertainty import entropies, mutual_information, predictive_entropy
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
        if self.dropout is None and setting.window is not None:
            raise ConfigError(
                "strategy.dropout = null: the model's own Dropout layers are drawn for whole images; give a rate, such as 0.5, "
                "or leave training.window out"
            )
        self._draws.attach(model, task)

    def seeds(self) -> Mapping[str, int]:
        return self._draws.seeds()

    def extra_loss(self, batch: Batch, losses: Tensor, progress: Progress) -> Tensor | None:
        return self._draws.extra_loss(batch, losses)

    def draws(self, batch: Batch) -> Float[Tensor, "t b c *space"]:
        """p_t, t = 1 ... T: class probabilities under each draw."""
        return self._draws.probabilities(batch)

    def predictive_entropy(self, batch: Batch) -> Float[Tensor, "b *space"]:
        """H(1/T sum_t p_t), in nats."""
        return predictive_entropy(self.draws(batch)) if _of_images(batch) else self._in_turn(batch)[0]

    def mutual_information(self, batch: Batch) -> Float[Tensor, "b *space"]:
        """H(1/T sum_t p_t) - 1/T sum_t H(p_t), in nats."""
        return mutual_information(self.draws(batch)) if _of_images(batch) else self._in_turn(batch)[1]

    def _in_turn(self, batch: Batch) -> tuple[Float[Tensor, "b *space"], Float[Tensor, "b *space"]]:
        """Both of maps, draw by draw: all draws of all pixels would not fit."""
        return entropies(self._draws.one_by_one(batch))

    @property
    def changes_task_model(self) -> bool:
        return self.dropout is not None


def _of_images(batch: Batch) -> bool:
    """Whether there is one prediction an image."""
    assert batch.output is not None
    return batch.output.logits.ndim == 2
