"""SRAAL: as VAAL, with an autoencoder that learns labels and a discriminator that learns how unsure the model is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from mcdal.checked import at_least
from mcdal.errors import ConfigError
from mcdal.models.aside import aside
from mcdal.models.base import Model, apply_head
from mcdal.networks.discriminator import Discriminator
from mcdal.networks.mlp import mlp
from mcdal.networks.own_steps import descend
from mcdal.networks.vae import VAE, Seen, kl_to_normal, resized
from mcdal.schedule import set_rate
from mcdal.strategies._by_autoencoder import ByAutoencoder, Images
from mcdal.strategies.base import BOTH, About, Setting
from mcdal.tasks.base import Task
from mcdal.values import Batch, Measurement, Metrics, Progress


def uncertainty_indicator(p: Float[Tensor, "b c *space"], unbiased: bool = False) -> Float[Tensor, " b"]:
    """U = 1 - max(p) V_min / Var(p), 0 for a sure p and 1 - 1/C for the uniform one; the mean over space.

    V_min = (max(p) - 1/C)^2 / (C - 1) is the variance over the classes if all but the largest shared the rest evenly: so
    V_min <= Var, and a flat rest gives U = 1 - max(p). At the uniform p, 0/0, the ratio is 1, its value for every flat rest.
    unbiased: divide Var by C - 1, not C, as the published code does; a sure p then has U = 1/C.
    """
    c = p.shape[1]
    largest = p.amax(1)
    least = (largest - 1 / c).square() / max(c - 1, 1)
    variance = (p - 1 / c).square().mean(1)
    uniform = least <= torch.finfo(p.dtype).eps ** 2  # 1/C itself is known to so many digits only
    ratio = torch.where(uniform, 1.0, least / variance.clamp_min(torch.finfo(p.dtype).tiny)).clamp_max(1)
    if unbiased:
        ratio = torch.where(uniform, 1.0, ratio * ((c - 1) / c))
    return (1 - largest * ratio).flatten(1).mean(1) if p.ndim > 2 else 1 - largest * ratio


@dataclass
class SRAAL(ByAutoencoder):
    """Zhang et al. 2020. As in VAAL a VAE and a discriminator D of its latent means mu compete over labeled images x_L and
    unlabeled x_U. Half of the latent vector is decoded to the image, a learner classifies the other half, and D's target for an
    unlabeled image is how unsure the task model is of it, U(x) (`uncertainty_indicator`). For each step of the task model:

        VAE and learner, `vae_steps` times
            min  sum over x_L, x_U of [reconstruction MSE + KL]  +  supervised CE(learner(z_L), y)
                 + BCE(D(mu_L), 1) + BCE(D(mu_U), 1)
        D, once
            min  BCE(D(mu_L), 1) + BCE(D(mu_U), 1 - U(x_U))

    MSE is a mean over all numbers, KL the batch's mean of the sum over dimensions, as published. score = -log D(mu).

    U comes from the task model as it is at this step, in a pass aside and as in testing: what D learns of an image then depends
    neither on its neighbours nor on dropout. The published code trains a second ResNet-18 for it, once a round.

    `mode=author` repeats the published roles: D is to say 0 of x_L and U of x_U, the VAE still pushes both to 1 (so towards
    "unlabeled", not as the paper has it), score = -log(1 - D(mu)); U by the unbiased variance; later VAE steps have new
    images but the first step's labels.

    At 32x32x3 and 10 classes VAE 25,325,843, learner 368,394, D 891,393 parameters: 37,759,592 with ResNet-18, as in the authors'
    code. MCDAL's Table II says 45.58M, which fits VAAL's networks with a second encoder (45,571,406) and a small learner instead.
    """

    about = About(
        paper="Zhang et al. 2020, *State-Relabeling Adversarial Active Learning*",
        needs=("images", "model", "training"),
        cost="the encoder over the pool; two steps of a VAE, larger than ResNet-18, and a pass of the model in each of training",
        memory="VAE, learner and discriminator with their optimizers: 27 million numbers four times over as published",
        use="as a baseline of tables",
        avoid="small computers; where entropy does: U(x) is an uncertainty",
        tasks=BOTH,
    )

    mode: Literal["fixed", "author"] = "fixed"
    """fixed: labeled is 1, and the VAE pushes to labeled. author: the published roles, labels and variance."""
    latent: int = 200
    """Length of the latent vectors: the first half is decoded, the second classified."""
    reconstruction: float = 5.0
    """Weight of the squared error."""
    supervised: float = 5.0
    """Weight of the learner's cross-entropy."""
    lr: float = 5e-4
    """Of both Adams, times .85 after each thirtieth of the training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latent % 2:
            raise ConfigError(f"strategy.latent = {self.latent}: give an even number, of which each half has a use")
        at_least(self, "strategy", 0, "reconstruction", "supervised")

    def attach(self, model: Model, task: Task, setting: Setting) -> None:
        self._model, self._task = model, task
        half = self.latent // 2
        vae = VAE(setting.channels, self.latent, self.width, self.size, decoded=half)
        self._learner = mlp(half, 1024, 256, len(task.classes))
        self.begin(setting, vae, {"learner": self._learner}, Discriminator(self.latent, hidden=4), "sraal")

    def step(self, labeled: Batch, unlabeled: Batch, progress: Progress) -> None:
        for optimizer in (self._vae_optimizer, self._discriminator_optimizer):
            set_rate(optimizer, self.lr * 0.85 ** (30 * progress.step // progress.steps))
        for seen, unseen in self._pairs.of(labeled, unlabeled, progress.step):
            y = labeled.y if self.mode == "author" else seen.y
            assert y is not None
            images = resized(seen.x, self.size), resized(unseen.x, self.size)
            self._autoencode(images, y)
        self._discriminate(images, self._uncertainty(unseen))

    def measure(self, batch: Batch) -> Measurement:
        logit = self.logit(batch)
        return self.scored(-F.logsigmoid(-logit if self.mode == "author" else logit), batch)

    def metrics(self) -> Metrics:
        """Of the last step: train/vae_loss and train/discriminator_loss as minimised, train/uncertainty the mean U of x_U."""
        return super().metrics()

    def _autoencode(self, images: tuple[Images, Images], y: Shaped[Tensor, "b ..."]) -> None:
        assert self._vae is not None
        seen = [self._vae(x) for x in images]
        elbo = torch.stack([self._elbo(x, s) for x, s in zip(images, seen, strict=True)]).sum()
        labels = seen[0].z[:, self.latent // 2 :]
        classified = self._task.losses_of_whole(apply_head(self._learner, labels), y).mean()
        as_one = torch.stack(
            [_cross_entropy(self._discriminator(s.mu), torch.ones_like(s.mu[:, 0])) for s in seen]
        ).sum()
        loss = elbo + self.supervised * classified + as_one
        descend(self._vae_optimizer, loss)
        self._last["train/vae_loss"] = loss.detach()

    def _elbo(self, x: Images, seen: Seen) -> Tensor:
        squares = (seen.image - x).square().mean()
        return self.reconstruction * squares + kl_to_normal(seen.mu, seen.logvar).mean()

    def _uncertainty(self, unlabeled: Batch) -> Float[Tensor, " b"]:
        with as_in_testing(self._model):
            p = self._model(unlabeled.x).logits.softmax(1)
        return uncertainty_indicator(p, unbiased=self.mode == "author")

    def _discriminate(self, images: tuple[Images, Images], uncertainty: Float[Tensor, " b"]) -> None:
        of_labeled, of_unlabeled = self.logits(images)
        ones = torch.ones_like(of_labeled)
        targets = (0 * ones, uncertainty) if self.mode == "author" else (ones, 1 - uncertainty)
        loss = _cross_entropy(of_labeled, targets[0]) + _cross_entropy(of_unlabeled, targets[1])
        descend(self._discriminator_optimizer, loss)
        self._last |= {"train/discriminator_loss": loss.detach(), "train/uncertainty": uncertainty.mean()}


def _cross_entropy(logit: Float[Tensor, " b"], target: Float[Tensor, " b"]) -> Tensor:
    """BCE(D, target), the mean over the batch."""
    return F.binary_cross_entropy_with_logits(logit, target)


@contextmanager
def as_in_testing(model: nn.Module) -> Iterator[None]:
    """A pass aside in eval mode; afterwards each layer is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with aside(model):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
