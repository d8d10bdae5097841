"""BALD: label where draws of the weights by dropout contradict each other, each sure of itself."""

from dataclasses import dataclass

from torch import Tensor

from mcdal.models.base import Model
from mcdal.networks.dropout import MonteCarloDropout
from mcdal.strategies.base import About, Scored, Setting
from mcdal.tasks.base import Task
from mcdal.uncertainty import mutual_information
from mcdal.values import Batch, Measurement, Progress


@dataclass
class BALD(Scored):
    """Houlsby et al. 2011: score = I(y; w) = H(1/T sum_t p_t) - 1/T sum_t H(p_t) >= 0, in nats.

    What a label says about the weights w. p_t, t = 1 ... T, are the class probabilities under T draws of w by dropout (Gal,
    Islam and Ghahramani 2017).
    """

    about = About(
        paper="Houlsby et al. 2011, *Bayesian Active Learning for Classification and Preference Learning*",
        needs=("features", "model"),
        cost="the head T times on the same features; with `dropout=null` T forward passes over the pool",
        memory="T x d dropout masks; with `dropout=null` one mask for each Dropout layer and draw",
        use="noisy labels or images that nobody can tell: what no label can settle scores low",
        avoid="large batches, whose members say the same (take power_bald); its task model is trained with dropout",
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
        return Measurement(score=mutual_information(self._draws.probabilities(batch)))

    @property
    def changes_task_model(self) -> bool:
        return self.dropout is not None
