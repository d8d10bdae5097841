"""A temperature for the task model's probabilities, chosen on labels that a second network has never seen."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mcdal.models.base import Model
from mcdal.networks.own_steps import Batches, descend
from mcdal.ranks import batch_count, batch_mean
from mcdal.schedule import Optimization, set_rate
from mcdal.selection.top import uniform
from mcdal.tasks.base import Task
from mcdal.values import Batch, Progress

BINS = 15
GRID = tuple(1 + i / 10 for i in range(191))
"""Temperatures that are tried: 1 to 20 by .1."""


class Calibration:
    """A network like the task model, trained beside it as it is, on the labeled samples but for a share that is held out.

    After the last step the temperature is chosen by which its predictions on the held-out samples have the least calibration
    error. Which samples are held out depends on their ids alone. labeled: `Setting.labeled`; its batches are augmented, so the
    temperature is that of augmented images. place: moves a network to where the model is.
    """

    def __init__(
        self,
        model: Model,
        task: Task,
        optimization: Optimization,
        place: Callable[[nn.Module], nn.Module],
        labeled: Batches,
        share: float,
    ):
        self.network = place(model.fresh())
        self.optimizer = optimization.optimizer(self.network.parameters())
        self.temperature = _Temperature()
        self._task, self._labeled, self._share = task, labeled, share
        self._order: Iterator[Batch] | None = None

    def step(self, progress: Progress) -> None:
        """A step of the network on what is not held out of a batch of its own; the last one also chooses the temperature."""
        if self._order is None:
            self._order = self._labeled("calibration", progress.step)
        set_rate(self.optimizer, progress.lr)
        batch = next(self._order)
        learned = [i for i, id in enumerate(batch.ids) if not self.held_out(id)]
        count = batch_count(len(learned))
        if count > 1:  # BatchNorm cannot learn from one
            self._learn(batch, learned, count)
        if progress.step == progress.steps - 1:
            self.temperature.value.fill_(best_temperature(*self._held_out_answers()))

    def held_out(self, id: str) -> bool:
        """Whether the network must not learn from this sample."""
        return uniform(0, f"calibration/{id}") < self._share

    def state(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """What a checkpoint keeps."""
        return {"network": self.network, "optimizer": self.optimizer, "temperature": self.temperature}

    def _learn(self, batch: Batch, learned: list[int], count: int) -> None:
        """count: of the samples that all processes learn."""
        assert batch.y is not None
        losses = self._task.losses(self.network.train()(batch.x[learned]).logits, batch.y[learned])
        descend(self.optimizer, batch_mean(losses, count))

    def _held_out_answers(self) -> tuple[Float[Tensor, "m c"], Int[Tensor, " m"]]:
        """Logits and labels of every held-out labeled sample, from one pass over the labeled samples."""
        seen: set[str] = set()
        logits, labels = [], []
        self.network.eval()
        for batch in self._labeled("calibration error", 0, whole=True):
            new = {id: i for i, id in enumerate(batch.ids) if id not in seen}
            if not new:  # the batches have come round
                break
            seen |= new.keys()
            held = [i for id, i in new.items() if self.held_out(id)]
            assert batch.y is not None
            if held:
                with torch.no_grad():
                    logits.append(self.network(batch.x[held]).logits.cpu())
                labels.append(batch.y[held].cpu())
        if not logits:
            return torch.zeros(0, len(self._task.classes)), torch.zeros(0, dtype=torch.int64)
        return torch.cat(logits), torch.cat(labels)


class _Temperature(nn.Module):
    """One number, kept in checkpoints as a module's state."""

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.ones((), dtype=torch.float64))


def best_temperature(logits: Float[Tensor, "m c"], y: Int[Tensor, " m"]) -> float:
    """The temperature of GRID with the least calibration error, the smallest of equals; 1 where there is no sample."""
    if len(y) == 0:
        return 1.0
    return min(GRID, key=lambda tau: (calibration_error((logits.double() / tau).softmax(1), y), tau))


def calibration_error(p: Float[Tensor, "m c"], y: Int[Tensor, " m"]) -> float:
    """Expected calibration error (Guo et al. 2017): sum over bins B of |B|/m |accuracy(B) - mean confidence(B)|.

    BINS bins of equal width of the confidence max p, each open below and closed above.
    """
    confidence, said = p.max(1)
    which = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gap = (said == y).to(p.dtype) - confidence
    return float(torch.zeros(BINS, dtype=p.dtype).index_add(0, which, gap).abs().sum() / len(y))
