"""MCDAL: two auxiliary heads learn to disagree where there are no labels; label where they disagree most."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mcdal.discrepancy import Distance, discrepancy, discrepancy_of
from mcdal.errors import ConfigError, SelectionError
from mcdal.models.aside import aside
from mcdal.models.base import Model
from mcdal.networks.heads import fresh_heads
from mcdal.networks.own_steps import descend
from mcdal.schedule import set_rate
from mcdal.strategies.base import BOTH, About, Scored, Setting, Stateful
from mcdal.tasks.base import Task
from mcdal.values import Batch, Measurement, Metrics, Output, Progress


@dataclass
class MCDAL(Scored):
    """Cho et al., "MCDAL: Maximum Classifier Discrepancy for Active Learning". In the paper's symbols:

    G is the model's encoder, F its head, F_1 ... F_n are `heads` more heads on G's detached features; p, p_1 ... p_n are their
    class probabilities. While F o G learns from the labeled images alone, the heads learn

        min  sum_k CE(p_k, y)                   on labeled images            (step A)
        min  sum_k CE(p_k, y) - L_dis           L_dis on unlabeled images    (step B, Eq. 2 and 3)

    where L_dis = sum of d over all pairs of {p, p_1 ... p_n}. An image's score is the same sum at sampling time (Eq. 4). The
    paper subtracts the labeled mean (Eq. 5), a constant that cannot change a ranking; it is recorded as `score/labeled_mean`.
    """

    about = About(
        paper="Cho et al. 2022, *MCDAL: Maximum Classifier Discrepancy for Active Learning*",
        needs=("probabilities", "features", "training"),
        cost="one forward pass without gradient over an unlabeled batch in each training step; choosing costs nothing",
        memory="the heads: `heads` x (d + 1) x C",
        use="the paper's regime: 10 % of the pool by 5 %, trained from scratch",
        avoid="very few labels, or many classes: the discrepancy term is at most 6/C and weak beside the cross-entropy",
        tasks=BOTH,
    )

    replayable = True

    heads: int = 2
    """Number of auxiliary heads: 2 in the paper; 4, 6 and 8 in its ablation. All pairs, the task's own head included."""
    distance: Distance = "l1"
    """d(p, q): l1 = mean |p_c - q_c| (Eq. 3), l2 = Euclidean norm / C, kl = mean of KL(p|q) and KL(q|p)."""
    compared: Literal["image", "pixel"] = "image"
    """Of masks: image averages each head's class probabilities over the image before they are compared, as in the paper;
    pixel compares them at each pixel and averages afterwards. The same where an image has one class."""
    discrepancy_loss: bool = True
    """False trains the heads on labels alone: they differ by their initialisation only (the paper's Fig. 10)."""
    alg1: bool = False
    """True takes Algorithm 1 by the letter: step B ascends L_dis without the labeled cross-entropy that the code adds."""
    published: bool = False
    """True repeats the published loop: unlabeled images and a second labeled pass move the model's BatchNorm statistics."""
    _model: Model | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compared not in ("image", "pixel"):
            raise ConfigError(f"strategy.compared = {self.compared!r}: it must be image or pixel")
        if self.heads < 2:
            raise ConfigError(f"strategy.heads = {self.heads}: at least 2 heads are needed to disagree")

    def attach(self, model: Model, task: Task, setting: Setting) -> None:
        device = next(model.parameters()).device
        self._model, self._task = model, task
        self._heads = fresh_heads(model, self.heads).to(device)
        self._optimizer = setting.optimization.optimizer(self._heads.parameters())
        self._last: dict[str, Tensor] = {}

    def step(self, labeled: Batch, unlabeled: Batch, progress: Progress) -> None:
        assert self._model is not None and labeled.output is not None and labeled.y is not None
        set_rate(self._optimizer, progress.lr)
        descend(self._optimizer, self._cross_entropy(labeled.output, labeled.y))  # step A

        if self.published:  # both passes in train mode with the updated weights: BatchNorm statistics move
            with torch.no_grad():
                seen, unseen = self._model(labeled.x), self._model(unlabeled.x)
        else:
            with aside(self._model):
                seen, unseen = labeled.output, self._model(unlabeled.x)
        cross_entropy = self._cross_entropy(seen, labeled.y)
        l_dis = self._discrepancy(unseen).mean()
        kept = 0.0 if self.alg1 else cross_entropy
        descend(self._optimizer, kept - l_dis if self.discrepancy_loss else cross_entropy)  # step B
        self._last = {"train/heads_loss": cross_entropy.detach(), "train/discrepancy": l_dis.detach()}

    def measure(self, batch: Batch) -> Measurement:
        return Measurement(score=self._apart(batch, self._shares))

    def heat(self, batch: Batch) -> Float[Tensor, "b h w"] | None:
        """The discrepancy at each pixel, whichever way images are `compared`."""
        return self._apart(batch, _by_place)

    def state(self) -> Mapping[str, Stateful]:
        return {} if self._model is None else {"heads": self._heads, "optimizer": self._optimizer}

    def metrics(self) -> Metrics:
        return {name: float(value) for name, value in self._last.items()}

    @property
    def changes_task_model(self) -> bool:
        return self.published

    def _apart(self, batch: Batch, shares: Callable[[Tensor], Tensor]) -> Float[Tensor, "b *space"]:
        """Eq. 4 between the task's head and the others, each as the class shares that `shares` makes of it."""
        assert batch.output is not None
        if self._model is None:
            raise SelectionError("MCDAL has no heads yet: train with this object first (`train` attaches it)")
        logits = batch.output.logits, *self._said(batch.output)
        return discrepancy_of(logits, self.distance, shares)

    def _said(self, output: Output) -> Float[Tensor, "h b c *space"]:
        """Logits of the heads, as large as the task model's."""
        logits: Tensor = self._heads(output.features, output.logits.shape[2:])
        return logits

    def _cross_entropy(self, output: Output, y: Tensor) -> Tensor:
        """sum_k CE(p_k, y), the mean over the batch for each head."""
        logits = self._said(output)
        losses = self._task.losses(logits.flatten(0, 1), y.repeat(self.heads, *[1] * (y.ndim - 1)))
        return losses.view(self.heads, -1).mean(1).sum()

    def _discrepancy(self, output: Output) -> Float[Tensor, "b *space"]:
        """Eq. 4: D(x) = sum of d over all pairs of {p, p_1 ... p_n}. The task's own p is a constant to the heads."""
        own = self._shares(output.logits.detach().softmax(1))
        others = self._shares(self._said(output).flatten(0, 1).softmax(1))
        shares = torch.cat([own[None], others.view(self.heads, *own.shape)])
        return discrepancy(shares, self.distance)

    def _shares(self, p: Float[Tensor, "n c *space"]) -> Float[Tensor, "n *places c"]:
        """What the distance compares: class shares of the whole image, or those of each place."""
        return self._task.pooled(p) if self.compared == "image" else _by_place(p)


def _by_place(p: Float[Tensor, "n c *space"]) -> Float[Tensor, "n *space c"]:
    return p.movedim(1, -1)
