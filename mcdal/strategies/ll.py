"""LL: a small network learns which images have a larger loss; label those it expects the largest of."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from mcdal.checked import above_zero, at_least
from mcdal.errors import ConfigError, SelectionError
from mcdal.models.aside import aside
from mcdal.models.base import Model
from mcdal.networks.loss_net import LossNet, ranking_loss
from mcdal.networks.own_steps import descend
from mcdal.schedule import set_rate
from mcdal.strategies.base import BOTH, About, Scored, Setting, Stateful
from mcdal.tasks.base import Task
from mcdal.values import Batch, Measurement, Metrics, Output, Progress


@dataclass
class LearningLoss(Scored):
    """Yoo and Kweon 2019. A loss-prediction module says lh(x), one number an image, from the outputs of the model's stages:
    each -> global average -> Linear(c, `width`) -> ReLU, together -> Linear(., 1). Model and module learn from

        1/B sum_i l_i + weight * 2/B sum_(i, j) max(0, margin - s (lh_i - lh_j)),   s = 1 where l_i > l_j, else -1

    over the B/2 pairs (i, B - 1 - i) of a batch, with l_i the task's own loss, a constant in the second term. That term changes
    the task model too, until `detach_after`. Both learn by the same kind of SGD at the same rate, at once: each sees the other as
    it was before this step. score = lh(x); it ranks images and is in no unit.
    """

    about = About(
        paper="Yoo and Kweon 2019, *Learning Loss for Active Learning*",
        needs=("stages", "training"),
        cost="none: a small network on the stages that the pass over the pool has computed",
        memory="the network: `width` x the channels of all stages",
        use="tasks whose losses say more than class probabilities do",
        avoid="comparisons of samples alone: its task model is another one; training losses near 0, which have no order to learn",
        tasks=BOTH,
    )

    weight: float = 1.0
    """Of the ranking loss beside the task's (lambda)."""
    margin: float = 1.0
    """How far apart the predictions of a pair should be (xi)."""
    detach_after: float = 0.6
    """Share of the training after which the ranking loss no longer changes the task model: epoch 120 of 200 in the paper."""
    width: int = 128
    """Of the module's layer on each stage."""
    _net: LossNet | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(self, "strategy", "weight", "margin")
        if not 0 <= self.detach_after <= 1:
            raise ConfigError(f"strategy.detach_after = {self.detach_after}: give a share of the training, 0 to 1")
        at_least(self, "strategy", 1, "width")

    def attach(self, model: Model, task: Task, setting: Setting) -> None:
        with aside(model):  # not the compiled model, which would keep a version for two images
            stages = model.forward(setting.like(model)).stages
        if not stages or any(stage.ndim != 4 for stage in stages):
            raise ConfigError(
                f"{type(model).__name__} gives {'stages that are not maps' if stages else 'no stages'}, and learning loss "
                "predicts from them: use a model that fills Output.stages with (b, c, h, w), such as resnet or small"
            )
        self._net = LossNet([stage.shape[1] for stage in stages], self.width)
        setting.place(self._net)
        self._optimizer = setting.optimization.optimizer(self._net.parameters())
        self._last: Tensor | None = None

    def extra_loss(self, batch: Batch, losses: Float[Tensor, " b"], progress: Progress) -> Tensor | None:
        assert self._net is not None and batch.output is not None
        if len(losses) < 2:
            raise ConfigError("training.batch_size = 1: learning loss compares samples of a batch, so give at least 2")
        felt = progress.fraction < self.detach_after
        before = copy.deepcopy(self._net).requires_grad_(False) if felt else None
        own = self._ranking(self._net, batch.output.detach(), losses)
        set_rate(self._optimizer, progress.lr)
        descend(self._optimizer, own)  # not in `step`, which is not called where nothing is unlabeled any more
        self._last = own.detach() / self.weight
        return own.detach() if before is None else self._ranking(before, batch.output, losses)

    def _ranking(self, net: LossNet, output: Output, losses: Float[Tensor, " b"]) -> Tensor:
        return self.weight * ranking_loss(net(output.stages), losses, self.margin)

    def measure(self, batch: Batch) -> Measurement:
        assert batch.output is not None
        if self._net is None:
            raise SelectionError("LearningLoss has no network yet: train with this object first (`train` attaches it)")
        return self.scored(self._net(batch.output.stages), batch)

    def state(self) -> Mapping[str, Stateful]:
        return {} if self._net is None else {"loss_net": self._net, "optimizer": self._optimizer}

    def metrics(self) -> Metrics:
        """train/ranking_loss: of the last step, without its weight."""
        return {} if self._net is None or self._last is None else {"train/ranking_loss": float(self._last)}
