"""A training step: the task model learns from labeled images, then the strategy's own networks follow."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from mcdal.device import sent
from mcdal.feed import Feed, Raw
from mcdal.in_step import InStep
from mcdal.models.aside import foreign_buffers
from mcdal.models.base import Model
from mcdal.replay import Beside, Made, Replayed
from mcdal.schedule import set_rate
from mcdal.strategies.base import Strategy, overrides
from mcdal.streams import drew_on_device, reseed, stream
from mcdal.values import Batch, Ids, Progress


class Step:
    """Takes one step after the other; knows no strategy by name.

    On CUDA a step that launches the same work every time is recorded and replayed. Where the strategy's networks only look at
    the task model, their step is put off and runs beside the task model's next forward and backward pass, which by itself does
    not fill the device. The numbers are the same: the pass that is put off ends before the weights it looks at change.

    Processes that train together take each step at once, each on its part of the batches.

    sums: number, loss and share of right answers of the steps since they were last set to zero. On the device.
    """

    def __init__(
        self, model: Model, strategy: Strategy, feed: Feed, optimizer: torch.optim.Optimizer, steps: int, seed: int,
        in_step: InStep,
    ):  # fmt: skip
        self._in_step = in_step
        self._model, self._strategy, self._feed, self._optimizer, self._seed = model, strategy, feed, optimizer, seed
        numerics = self._numerics = feed.numerics
        device = numerics.device
        self.sums = torch.zeros(3, dtype=numerics.wide, device=device)
        self._follows = overrides(strategy, "step") and len(feed.unlabeled) > 0
        # What joins the loss may look at anything, at the step's number for one.
        self._replays = numerics.replay and not overrides(strategy, "extra_loss")
        self._progress = self._behind = Progress(0, steps, 0.0)
        self._lr, self._lr_behind = torch.zeros((), device=device), torch.zeros((), device=device)
        self._labeled: Batch
        self._ids: tuple[Ids, Ids] = (), ()  # of the labeled and the unlabeled batch
        self._learning: Callable[..., Batch] = self._learn
        self._following: Callable[..., None] = self._follow
        self._learning_ahead: Callable[..., Batch] = self._recorded(self._learn_ahead)
        self._beside = Beside(device)
        self._owed: tuple[Tensor, Tensor] | None = None  # an unlabeled batch that the strategy has still to learn from
        self._held: Batch | None = None  # the labeled batch that belongs to it
        self._ahead: bool | None = None  # decided after the first step
        if not self._may_learn_ahead():
            self._take_in_turn()

    def begin(self, first: int) -> None:
        """Opens the batches, at those of step `first`."""
        self._batches: Iterator[Raw] = self._feed.raw(True, "labeled", first)
        self._others: Iterator[Raw] = self._feed.raw(False, "unlabeled", first)

    def __call__(self, number: int, lr: float) -> None:
        """Step `number` at learning rate `lr`. Afterwards `settle` before anybody looks at the strategy."""
        self._move_on(number, lr)
        self._in_step.begin_step()
        ids, x, y = next(self._batches)  # before the seed is set: starting a loader's workers draws random numbers
        self._ids = ids, self._ids[1]
        given = x, y, self._drawn(x, "task", number)
        labeled = self._learning(*given) if self._owed is None else self._learning_ahead(*given, *self._owed)
        # A replayed step gives the batch of its recording, whose tensors are filled anew; the ids are not.
        self._labeled = replace(labeled, ids=ids)
        if not self._follows:
            return
        drew = self._ahead is None and drew_on_device(self._numerics.device)
        others, x, _ = next(self._others)
        self._ids = ids, others
        drawn = self._drawn(x, "strategy", number)
        if self._ahead:
            self._owe(x, drawn)
            return
        self._following(x, drawn)
        if self._ahead is None:
            self._ahead = not (drew or drew_on_device(self._numerics.device))
            if not self._ahead:  # recorded in one, both would read the random numbers of the same stream
                self._take_in_turn()

    def settle(self) -> None:
        """Does what was put off."""
        if self._owed is not None:
            self._follow(*self._owed)
        self._owed = None

    def _may_learn_ahead(self) -> bool:
        """Whether the strategy's step neither writes what a pass of the task model reads nor reads what that writes."""
        apart = not self._strategy.changes_task_model and not foreign_buffers(self._model)
        return self._replays and self._follows and self._strategy.replayable and apart

    def _take_in_turn(self) -> None:
        self._ahead = False
        self._learning = self._recorded(self._learn)
        if self._strategy.replayable:
            self._following = self._recorded(self._follow)

    def _recorded(self, work: Callable[..., Made]) -> Callable[..., Made]:
        return Replayed(work, self._numerics.device) if self._replays else work

    def _move_on(self, number: int, lr: float) -> None:
        """A replayed step reads the rate from the device, and one that was put off has its own place there."""
        self._behind, self._progress = self._progress, replace(self._progress, step=number, lr=lr)
        if self._numerics.replay:
            self._behind = replace(self._behind, lr=self._lr_behind.copy_(self._lr))
            self._progress = replace(self._progress, lr=self._lr.fill_(lr))

    def _drawn(self, x: Tensor, purpose: str, number: int) -> Tensor:
        """How to augment this batch. The random numbers of this purpose and step begin here."""
        reseed(stream(self._seed, purpose, number))
        return sent(self._feed.drawn(x), self._numerics.device)

    def _owe(self, x: Tensor, drawn: Tensor) -> None:
        self._owed = x, drawn
        if self._held is None:
            self._held = deepcopy(self._labeled)
        for mine, tensor in zip(_tensors(self._held), _tensors(self._labeled), strict=True):
            mine.copy_(tensor)
        self._held = replace(self._held, ids=self._labeled.ids)

    def _learn(self, x: Tensor, y: Tensor, drawn: Tensor) -> Batch:
        """A step of the task model; gives its batch and what it said, cut from the graph."""
        labeled = self._backward(x, y, drawn)
        self._optimizer.step()
        return labeled

    def _follow(self, x: Tensor, drawn: Tensor) -> None:
        """A step of the strategy's own networks, beside that of the task model."""
        self._follow_with(self._labeled, self._progress, x, drawn)

    def _learn_ahead(self, x: Tensor, y: Tensor, drawn: Tensor, owed: Tensor, owed_drawn: Tensor) -> Batch:
        """`_follow` of the step before and `_learn`, at once as far as they go."""
        assert self._held is not None
        with self._beside.forked():
            self._follow_with(self._held, self._behind, owed, owed_drawn)
        labeled = self._backward(x, y, drawn)
        self._beside.join()
        self._optimizer.step()
        return labeled

    def _backward(self, x: Tensor, y: Tensor, drawn: Tensor) -> Batch:
        """All of the task model's step but the change of its weights."""
        task = self._feed.pool.task
        set_rate(self._optimizer, self._progress.lr)
        labeled = self._feed.augmented(self._ids[0], x, y, drawn)
        assert labeled.y is not None
        with self._numerics.autocast():
            output = self._model(labeled.x)
            losses = task.losses(output.logits, labeled.y)  # not y: masks were moved with their images
            extra = self._strategy.extra_loss(labeled.with_output(output), losses, self._progress)
        loss = losses.mean() if extra is None else losses.mean() + extra
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._count(loss.detach(), output.logits.detach(), labeled.y)
        return labeled.with_output(output.detach())

    def _follow_with(self, labeled: Batch, progress: Progress, x: Tensor, drawn: Tensor) -> None:
        unlabeled = self._feed.augmented(self._ids[1], x, None, drawn)
        with self._numerics.autocast():
            self._strategy.step(labeled, unlabeled, progress)

    def _count(self, loss: Tensor, logits: Tensor, y: Tensor) -> None:
        right = self._feed.pool.task.right(logits, y).to(self._numerics.wide)
        counted = torch.stack([torch.ones_like(right), loss.to(right.dtype), right])
        self._feed.ranks.average([counted])  # at each step: a state that is kept has them, and rank 0 alone keeps it
        self.sums += counted


def _tensors(batch: Batch) -> list[Tensor]:
    assert batch.y is not None and batch.output is not None
    return [batch.x, batch.y, batch.output.logits, batch.output.features, *batch.output.stages]
