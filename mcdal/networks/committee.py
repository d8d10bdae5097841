"""A committee: networks like the task model, trained beside it from another start and in another order of the images."""

from collections.abc import Callable, Iterator
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mcdal.models.base import Model
from mcdal.networks.own_steps import Batches
from mcdal.schedule import Optimization, set_rate
from mcdal.softmax import softmax
from mcdal.tasks.base import Task
from mcdal.values import Batch, Metrics, Progress
from mcdal.windows import forward


class Committee:
    """`members` networks. Member 0 is the task model; the others are fresh ones, and learn as it does, from the same labels.

    place: moves a network to where the model is. labeled(purpose, first): labeled batches without end, from number `first` on,
    in an order of this purpose's own. window: in which scenes are measured. Built anew for each round, so that no member
    remembers an earlier one.
    """

    def __init__(
        self,
        model: Model,
        task: Task,
        members: int,
        optimization: Optimization,
        place: Callable[[nn.Module], nn.Module],
        labeled: Batches,
        window: tuple[int, int] | None = None,
    ):
        self.others = nn.ModuleList(place(model.fresh()) for _ in range(members - 1))
        # One optimizer for all: SGD treats each weight by itself, so this is one a member.
        self.optimizer = optimization.optimizer(self.others.parameters())
        self._loss: Tensor | None = None
        self._task, self._labeled, self._window = task, labeled, window
        self._orders: list[Iterator[Batch]] = []

    def step(self, progress: Progress) -> None:
        """One step of each of the others on a batch of its own."""
        if not self._orders:
            self._orders = [self._labeled(f"member {i + 1}", progress.step) for i in range(len(self.others))]
        set_rate(self.optimizer, progress.lr)
        self.optimizer.zero_grad(set_to_none=True)
        losses = [self._learn(m, next(order)) for m, order in zip(self.others.train(), self._orders, strict=True)]
        self.optimizer.step()
        self._loss = torch.stack(losses).mean()

    def _learn(self, member: nn.Module, batch: Batch) -> Tensor:
        assert batch.y is not None
        loss = self._task.losses(member(batch.x).logits, batch.y).mean()
        with torch.autocast(batch.x.device.type, enabled=False):  # as for the task model
            torch.autograd.backward(loss)
        return loss.detach()

    def probabilities(self, batch: Batch) -> Float[Tensor, "m b c *space"]:
        """Class probabilities of every member; member 0, the task model, has spoken already."""
        assert batch.output is not None
        self.others.eval()
        members = (cast(Model, member) for member in self.others)
        others = (forward(member, self._window, stages=False)(batch.x).logits for member in members)
        return softmax(torch.stack([batch.output.logits, *others]), 2)

    def state(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """What a checkpoint keeps."""
        return {"members": self.others, "optimizer": self.optimizer}

    def metrics(self) -> Metrics:
        """train/members_loss: mean loss of the others at the last step."""
        return {} if self._loss is None else {"train/members_loss": float(self._loss)}
