"""MC-dropout: label where several draws of the weights by dropout are, on the whole, least sure (DBAL)."""

from dataclasses import dataclass

from torch import Tensor

from mcdal.models.base import Model
from mcdal.networks.dropout import MonteCarloDropout
from mcdal.strategies.base import About, Scored, Setting
from mcdal.tasks.base import Task
from mcdal.uncertainty import predictive_entropy
from mcdal.values import Batch, Measurement, Progress


@dataclass
class MCDropout(Scored):
    """Gal, Islam and Ghahramani 2017: score = H(1/T sum_t p_t), in nats, the predictive entropy.

    p_t, t = 1 ... T, are the class probabilities under T draws of the weights by dropout. Unsure draws and draws that
    contradict each other both count; `bald` counts the contradiction alone.
    """

    about = About(
        paper="Gal, Islam and Ghahramani 2017, *Deep Bayesian Active Learning with Image Data*",
        needs=("features", "model"),
        cost="the head T times on the same features; with `dropout=null` T forward passes over the pool",
        memory="T x d dropout masks; with `dropout=null` one mask for each Dropout layer and draw",
        use="small labeled sets, where a single network is too sure of itself",
        avoid="many classes and few labels, as all entropies; its task model is trained with dropout, so compare it with care",
    )

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

    def measure(self, batch: Batch) -> Measurement:
        return Measurement(score=predictive_entropy(self._draws.probabilities(batch)))

    @property
    def changes_task_model(self) -> bool:
        return self.dropout is not None
