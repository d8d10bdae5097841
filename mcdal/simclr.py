"""SimCLR: features that an encoder learns without any label, by telling two views of one image from views of others."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mcdal.augment import normalize
from mcdal.checked import above_zero, at_least
from mcdal.device import Numerics
from mcdal.errors import ConfigError, TrainingError
from mcdal.events import Listener, nobody
from mcdal.feed import shuffled
from mcdal.models.base import Model
from mcdal.pool.base import Pool, Positions
from mcdal.schedule import set_rate
from mcdal.strategies.base import Stateful
from mcdal.streams import own_randomness, reseed, stream
from mcdal.views import Views
from mcdal.work import SECONDS_BETWEEN_WORDS, Forgetful, Keeper

PUBLISHED_BATCH = 512


@dataclass(frozen=True)
class SimCLR:
    """Chen et al. 2020, *A Simple Framework for Contrastive Learning of Visual Representations*, for small images.

    Two random views of each of n images go through the encoder and a projection head of two layers. With z_i of unit length,
    j the other view of the same image, and k over all 2n views but i itself (NT-Xent, Eq. 1):

        l_i = -log( exp(z_i . z_j / temperature) / sum_k exp(z_i . z_k / temperature) ),   loss = mean of l_i over the 2n views

    SGD with a cosine schedule; the defaults are those of TypiClust's features. What is kept is what the encoder gives, before
    the projection. A view is mirrored where the recipe's training mirrors too (`training.augment.flip`).
    """

    epochs: int = 500
    """Passes over the pool. 0 takes the network as it is built: for one with pretrained weights."""
    batch_size: int = PUBLISHED_BATCH
    """Images a step, each in two views; no more than the pool has."""
    lr: float = 0.4
    """Learning rate at 512 images a step, where the cosine begins; in proportion for other batch sizes."""
    momentum: float = 0.9
    """SGD momentum, without Nesterov."""
    weight_decay: float = 1e-4
    """L2 penalty on all parameters."""
    temperature: float = 0.1
    """Divides the similarities: the smaller, the more the closest other images count."""
    projection: int = 128
    """Length of z. The hidden layer of the projection head is as wide as the features."""
    crop: float = 0.2
    """Smallest share of an image's area that a view shows; 1 crops nothing."""
    jitter: float = 0.4
    """Strength of the changes of brightness, contrast and, of colour images, saturation."""

    def __post_init__(self) -> None:
        at_least(self, "simclr", 0, "epochs", "lr", "momentum", "weight_decay")
        at_least(self, "simclr", 1, "projection")
        at_least(self, "simclr", 2, "batch_size")
        above_zero(self, "simclr", "temperature")
        if not 0 < self.crop <= 1:
            raise ConfigError(f"simclr.crop = {self.crop}: it is a share of the area, above 0 and at most 1")
        if not 0 <= self.jitter <= 1:
            raise ConfigError(f"simclr.jitter = {self.jitter}: it must be 0 to 1")

    def rate(self, step: int, steps: int, batch_size: int) -> float:
        """Learning rate of step `step` (from 0) of `steps`: half a cosine, from lr down to 0."""
        return self.lr * batch_size / PUBLISHED_BATCH * (1 + math.cos(math.pi * step / steps)) / 2


def nt_xent(z: Float[Tensor, "views d"], temperature: float) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The loss, and the share of views that are closest to their partner. Row i and row i + views / 2 show the same image."""
    z = F.normalize(z, dim=1)
    similarity = z @ z.T / temperature
    similarity = similarity.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -math.inf)
    partner = torch.arange(len(z), device=z.device).roll(len(z) // 2)
    return F.cross_entropy(similarity, partner), (similarity.argmax(1) == partner).to(z.dtype).mean()


def pretrain(
    model: Model,
    pool: Pool,
    simclr: SimCLR,
    *,
    flip: bool,
    numerics: Numerics,
    seed: int = 0,
    keeper: Keeper | None = None,
    listen: Listener = nobody,
) -> None:
    """Trains the encoder of `model` in place, on all images of the pool and no label. The same seed gives the same bits.

    Afterwards the model is in eval mode. Raises TrainingError where the loss is not finite.
    """
    with own_randomness(), numerics.deterministic():
        numerics.place(model)
        _Work(
            model, pool, simclr, Views(simclr.crop, flip, simclr.jitter), numerics, seed, keeper or Forgetful(), listen
        ).run()
        model.eval()


@dataclass
class _Work:
    """One training under way."""

    model: Model
    pool: Pool
    simclr: SimCLR
    views: Views
    numerics: Numerics
    seed: int
    keeper: Keeper
    listen: Listener

    def __post_init__(self) -> None:
        self.batch_size = min(self.simclr.batch_size, len(self.pool))
        self.steps_per_epoch = len(self.pool) // self.batch_size  # the rest of a pass is left out, as published
        self.steps = self.simclr.epochs * self.steps_per_epoch
        torch.manual_seed(stream(self.seed, "projection"))
        self.projection = self._projection()
        parameters = [*self.model.parameters(), *self.projection.parameters()]
        self.optimizer = torch.optim.SGD(
            parameters, lr=self.simclr.lr, momentum=self.simclr.momentum, weight_decay=self.simclr.weight_decay
        )
        # Sums over the present epoch: number of steps, loss and share of views that find their partner.
        self.epoch_sums = torch.zeros(3, dtype=self.numerics.wide, device=self.numerics.device)

    def run(self) -> None:
        spoken = time.monotonic()
        first = self._continue()
        self.model.train()
        device = self.numerics.device
        for step, x in enumerate(self.pool.images.batches(self._order(first), device), first):
            self._step(step, x)
            if time.monotonic() - spoken > SECONDS_BETWEEN_WORDS or step + 1 == self.steps:
                self.listen("train", done=step + 1, total=self.steps, lr=self._rate(step), **self._reached(step))
                spoken = time.monotonic()
            if (step + 1) % self.steps_per_epoch == 0:
                self._reached(step)
                self.epoch_sums.zero_()
            if self.keeper.due() or step + 1 == self.steps:
                self.keeper.save(self._state(step + 1))

    def _order(self, first: int) -> Iterator[Positions]:
        """The images of each step from `first` on. A permutation a pass: no image is twice in a batch, as its own negative."""
        seed = stream(self.seed, "order", "simclr")
        for epoch in range(first // self.steps_per_epoch, self.simclr.epochs):
            order = shuffled(len(self.pool), seed, epoch)
            begun = first % self.steps_per_epoch if epoch == first // self.steps_per_epoch else 0
            for step in range(begun, self.steps_per_epoch):
                yield order[step * self.batch_size : (step + 1) * self.batch_size]

    def _step(self, step: int, x: Tensor) -> None:
        set_rate(self.optimizer, self._rate(step))
        reseed(stream(self.seed, "simclr", step))
        x = normalize(x, self.pool.mean, self.pool.std)
        both = self.numerics.arrange(torch.cat([self.views(x), self.views(x)]))
        with self.numerics.autocast():
            z = self.projection(self.pool.task.pooled(self.model(both).features))
        # In float32 or wider whatever the autocast: a temperature of .1 multiplies what rounding did by ten.
        loss, found = nt_xent(z.to(torch.promote_types(z.dtype, torch.float32)), self.simclr.temperature)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.epoch_sums += torch.stack([torch.ones_like(loss), loss.detach(), found]).to(self.epoch_sums.dtype)

    def _projection(self) -> nn.Module:
        channels, size = self.pool.shape
        weight = next(self.model.parameters())
        self.model.eval()  # moves no BatchNorm statistic
        with torch.no_grad():
            width = self.model.forward(weight.new_zeros(2, channels, *size)).features.shape[1]
        head = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, self.simclr.projection))
        return head.to(self.numerics.device, self.numerics.dtype)

    def _rate(self, step: int) -> float:
        return self.simclr.rate(step, self.steps, self.batch_size)

    def _reached(self, step: int) -> dict[str, float]:
        """Means over this epoch, by the names of other trainings; the only place where the device is waited for."""
        count, loss, found = self.epoch_sums.tolist()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the contrastive loss is {loss} at step {step + 1} of {self.steps}: training stopped. Try a smaller simclr.lr "
                "or a larger simclr.temperature, or look for broken images"
            )
        return {"train/loss": loss / count, "train/accuracy": found / count} if count else {}

    def _state(self, step: int) -> dict[str, object]:
        self._reached(step - 1)  # a state that is not finite is not worth keeping
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        return {"step": step, "epoch_sums": self.epoch_sums, **parts}

    def _parts(self) -> dict[str, Stateful]:
        return {"model": self.model, "projection": self.projection, "optimizer": self.optimizer}

    def _continue(self) -> int:
        """Takes up a kept state; gives the first step still to do."""
        state = self.keeper.load()
        if state is None:
            return 0
        for name, part in self._parts().items():
            part.load_state_dict(state[name])  # type: ignore[arg-type]
        self.epoch_sums.copy_(state["epoch_sums"])  # type: ignore[arg-type]
        return int(state["step"])  # type: ignore[call-overload,no-any-return]
