"""Power BALD: BALD by lot, in proportion to a power of the score, so that a large batch is not all of one kind."""

from dataclasses import dataclass

from torch import Tensor

from mcdal.models.base import Model
from mcdal.networks.dropout import MonteCarloDropout
from mcdal.selection import Sampling
from mcdal.strategies.base import About, Scored, Setting
from mcdal.tasks.base import Task
from mcdal.uncertainty import mutual_information
from mcdal.values import Batch, Measurement, Progress


@dataclass
class PowerBALD(Scored):
    """Kirsch et al. 2023: without replacement, each next pick in proportion to score^beta, with the score of `bald`,

        I(y; w) = H(1/T sum_t p_t) - 1/T sum_t H(p_t),

    p_t, t = 1 ... T, the class probabilities under T draws of the weights w by dropout. The same as the largest of
    log score + Gumbel noise / beta.
    """

    about = About(
        paper="Kirsch et al. 2023, *Stochastic Batch Acquisition: A Simple Baseline for Deep Active Learning*",
        needs=("features", "model"),
        cost="the head T times on the same features; with `dropout=null` T forward passes over the pool",
        memory="T x d dropout masks; with `dropout=null` one mask for each Dropout layer and draw",
        use="BALD with batches of any size: near batch_bald for the price of bald",
        avoid="batches of a few images, where batch_bald is affordable; its task model is trained with dropout",
    )

    sampling: Sampling = "power"
    """power: by lot in proportion to score^beta. softmax, softrank: to exp(beta score) or rank^-beta. top: as `bald`."""
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
