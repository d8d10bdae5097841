"""VAAL: an autoencoder and a discriminator of its latent vectors compete; label what looks least labeled."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mcdal.checked import at_least
from mcdal.models.base import Model
from mcdal.networks.discriminator import Discriminator
from mcdal.networks.own_steps import Pair, descend
from mcdal.networks.vae import VAE, Seen, kl_to_normal, resized
from mcdal.ranks import batch_sum
from mcdal.strategies._by_autoencoder import ByAutoencoder, Images
from mcdal.strategies.base import BOTH, About, Setting
from mcdal.tasks.base import Task
from mcdal.values import Batch, Measurement, Metrics, Progress


@dataclass
class VAAL(ByAutoencoder):
    """Sinha, Ebrahimi and Darrell 2019. A VAE learns from labeled images x_L and unlabeled x_U alike, a discriminator D to tell
    their latent means mu apart; labels themselves play no part. For each step of the task model:

        VAE, `vae_steps` times   min  ELBO(x_L) + ELBO(x_U) + adversarial [BCE(D(mu_L), 1) + BCE(D(mu_U), 1)]
        D, once                  min  BCE(D(mu_L), 1) + BCE(D(mu_U), 0)

    with new batches for each of the VAE's steps; D takes those of the last. score = -log D(mu): the least labeled-looking first,
    in the order of 1 - D(mu), which rounds to 1 where D is sure.

    The ELBO, here to be minimised, with x^ the reconstruction: mean over the batch of |x^ - x|^2 + KL(N(mu, sigma^2) | N(0, 1)),
    summed over the image's numbers and the latent dimensions. The published code (`mode=author`) takes |x^ - x|^2 as a mean over
    batch and pixels but KL as a sum over the batch: 128 x 3,072 times too heavy at 32x32, so that mu says nothing and D stays
    at .5.

    The VAE is trained on the task's augmented and normalised images (mean 0 and deviation 1 a channel; the published ones are in
    [-1, 1] and only flipped), and measures as in testing; the published code measures augmented images in training mode.
    22,835,139 parameters and 280,065 of D at 32x32x3.
    """

    about = About(
        paper="Sinha, Ebrahimi and Darrell 2019, *Variational Adversarial Active Learning*",
        needs=("images", "training"),
        cost="the encoder over the pool; two training steps of a VAE, larger than ResNet-18, in each training step",
        memory="VAE and discriminator with their optimizers: 23 million numbers four times over as published",
        use="as a baseline of tables; where the labeled images come from another place than the pool does",
        avoid="small computers; a start set drawn at random, which looks like the rest: there is little to tell apart",
        tasks=BOTH,
    )

    mode: Literal["fixed", "author"] = "fixed"
    """fixed: reconstruction and KL on one scale. author: the published scales, under which the latent vectors collapse."""
    latent: int = 32
    """Length of the latent vectors; 64 for ImageNet and 128 for Cityscapes in the paper."""
    adversarial: float = 1.0
    """Weight of the discriminator in the VAE's loss (lambda_2)."""
    lr: float = 5e-4
    """Of both Adams, constant. Lower it where the VAE diverges: 5e-6 is reported for ImageNet."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "strategy", 0, "adversarial")

    def attach(self, model: Model, task: Task, setting: Setting) -> None:
        vae = VAE(setting.channels, self.latent, self.width, self.size)
        self.begin(setting, vae, {}, Discriminator(self.latent, hidden=2), "vaal")

    def step(self, labeled: Batch, unlabeled: Batch, progress: Progress) -> None:
        for pair in self._pairs.of(labeled, unlabeled, progress.step):
            images = self._images(pair)
            self._autoencode(images)
        self._discriminate(images)

    def measure(self, batch: Batch) -> Measurement:
        return self.scored(-F.logsigmoid(self.logit(batch)), batch)

    def metrics(self) -> Metrics:
        """Of the last step: train/vae_loss and train/discriminator_loss as minimised (the latter is 2 log 2 = 1.386 where D says
        .5 of all), train/kl in nats an image."""
        return super().metrics()

    def _images(self, pair: Pair) -> tuple[Images, Images]:
        one, two = (resized(batch.x, self.size) for batch in pair)
        return one, two

    def _autoencode(self, images: tuple[Images, Images]) -> None:
        assert self._vae is not None
        seen = [self._vae(x) for x in images]
        elbo = torch.stack([self._elbo(x, s) for x, s in zip(images, seen, strict=True)]).sum()
        as_labeled = torch.stack([_cross_entropy(self._discriminator(s.mu), 1.0) for s in seen]).sum()
        loss = elbo + self.adversarial * as_labeled
        descend(self._vae_optimizer, loss)
        kl = torch.cat([kl_to_normal(s.mu, s.logvar) for s in seen]).mean()
        self._last |= {"train/vae_loss": loss.detach(), "train/kl": kl.detach()}

    def _elbo(self, x: Images, seen: Seen) -> Tensor:
        squares, kl = (seen.image - x).square(), kl_to_normal(seen.mu, seen.logvar)
        if self.mode == "author":
            return squares.mean() + batch_sum(kl)
        return squares.flatten(1).sum(1).mean() + kl.mean()

    def _discriminate(self, images: tuple[Images, Images]) -> None:
        of_labeled, of_unlabeled = self.logits(images)
        loss = _cross_entropy(of_labeled, 1.0) + _cross_entropy(of_unlabeled, 0.0)
        descend(self._discriminator_optimizer, loss)
        self._last["train/discriminator_loss"] = loss.detach()


def _cross_entropy(logit: Float[Tensor, " b"], target: float) -> Tensor:
    """BCE(D, target), the mean over the batch."""
    return F.binary_cross_entropy_with_logits(logit, torch.full_like(logit, target))
