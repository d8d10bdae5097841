"""MCDAL: two auxiliary heads learn to disagree where there are no labels; label where they disagree most."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mcdal.checked import above_zero, at_least
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

    `weight`, `head_steps`, `pairs` and `init_gain` are not in the paper, whose values are their defaults.
    """

    about = About(
        paper="Cho et al. 2022, *MCDAL: Maximum Classifier Discrepancy for Active Learning*",
        needs=("probabilities", "features", "training"),
        cost="one forward pass without gradient over an unlabeled batch in each training step; choosing costs nothing",
        memory="the heads: `pairs` x `heads` x (d + 1) x C",
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
    weight: float = 1.0
    """Of L_dis in step B. l1 and l2 are means over classes, so that L_dis weighs less the more classes there are: C, their
    number, makes them sums."""
    head_steps: int = 1
    """Times that steps A and B are made with each pair of batches."""
    pairs: int = 1
    """Independent sets of heads, each compared with itself and the task's own; a score is the mean of their discrepancies."""
    init_gain: float = 1.0
    """Times the initial weights of the heads: larger ones start further apart."""
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
        at_least(self, "strategy", 1, "head_steps", "pairs")
        at_least(self, "strategy", 0, "weight")
        above_zero(self, "strategy", "init_gain")

    def attach(self, model: Model, task: Task, setting: Setting) -> None:
        device = next(model.parameters()).device
        self._model, self._task = model, task
        self._heads = fresh_heads(model, self.pairs * self.heads).to(device)
        with torch.no_grad():
            for parameter in self._heads.parameters():
                parameter.mul_(self.init_gain)
        self._optimizer = setting.optimization.optimizer(self._heads.parameters())
        self._last: dict[str, Tensor] = {}

    def step(self, labeled: Batch, unlabeled: Batch, progress: Progress) -> None:
        assert self._model is not None and labeled.output is not None and labeled.y is not None
        set_rate(self._optimizer, progress.lr)
        if self.published:  # both passes in train mode with the updated weights: BatchNorm statistics move
            with torch.no_grad():
                seen, unseen = self._model(labeled.x), self._model(unlabeled.x)
        else:
            with aside(self._model):
                seen, unseen = labeled.output, self._model(unlabeled.x)
        for _ in range(self.head_steps):
            descend(self._optimizer, self._cross_entropy(labeled.output, labeled.y))  # step A
            cross_entropy = self._cross_entropy(seen, labeled.y)
            l_dis = self._discrepancy(unseen).mean() * self.pairs
            kept = 0.0 if self.alg1 else cross_entropy
            descend(self._optimizer, kept - self.weight * l_dis if self.discrepancy_loss else cross_entropy)  # step B
        self._last = {"train/heads_loss": cross_entropy.detach(), "train/discrepancy": l_dis.detach()}

    def measure(self, batch: Batch) -> Measurement:
        return self.scored(self._apart(batch, self._shares), batch)

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
        """Eq. 4 between the task's head and each set of the others, each as the class shares that `shares` makes of it."""
        assert batch.output is not None
        if self._model is None:
            raise SelectionError("MCDAL has no heads yet: train with this object first (`train` attaches it)")
        own, others = batch.output.logits, self._said(batch.output)
        each = [discrepancy_of((own, *of_set), self.distance, shares) for of_set in torch.split(others, self.heads)]
        return each[0] if self.pairs == 1 else torch.stack(each).mean(0)

    def _said(self, output: Output) -> Float[Tensor, "n b c *space"]:
        """Logits of the n = pairs x heads heads, set by set, as large as the task model's."""
        logits: Tensor = self._heads(output.features, output.logits.shape[2:])
        return logits

    def _cross_entropy(self, output: Output, y: Tensor) -> Tensor:
        """sum_k CE(p_k, y), the mean over the batch for each head."""
        logits = self._said(output)
        losses = self._task.losses(logits.flatten(0, 1), y.repeat(len(logits), *[1] * (y.ndim - 1)))
        return losses.view(len(logits), -1).mean(1).sum()

    def _discrepancy(self, output: Output) -> Float[Tensor, "s b *space"]:
        """Eq. 4 of each set: D(x) = sum of d over all pairs of {p, p_1 ... p_n}. The task's own p is a constant to the heads."""
        own = self._shares(output.logits.detach().softmax(1))
        others = self._shares(self._said(output).flatten(0, 1).softmax(1)).view(self.pairs, self.heads, *own.shape)
        members = torch.cat([own.expand(self.pairs, 1, *own.shape), others], 1)
        return discrepancy(members.transpose(0, 1), self.distance)

    def _shares(self, p: Float[Tensor, "n c *space"]) -> Float[Tensor, "n *places c"]:
        """What the distance compares: class shares of the whole image, or those of each place."""
        return self._task.pooled(p) if self.compared == "image" else _by_place(p)


def _by_place(p: Float[Tensor, "n c *space"]) -> Float[Tensor, "n *space c"]:
    return p.movedim(1, -1)
