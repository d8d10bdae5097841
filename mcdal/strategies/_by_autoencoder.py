"""What VAAL and SRAAL share: a VAE of the images and a discriminator of its latent means, which compete."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mcdal.checked import above_zero, at_least
from mcdal.errors import ConfigError, SelectionError
from mcdal.networks.discriminator import Discriminator
from mcdal.networks.own_steps import Pairs
from mcdal.networks.vae import VAE, resized
from mcdal.strategies.base import Scored, Setting, Stateful
from mcdal.values import Batch, Metrics

Images: TypeAlias = Float[Tensor, "_ c s s"]


@dataclass
class ByAutoencoder(Scored):
    """Builds the networks (`begin`, from `attach`), keeps them, and says D's logit of measured images."""

    mode: Literal["fixed", "author"] = "fixed"
    """fixed: the clean reading. author: as published."""
    latent: int = 32
    """Length of the latent vectors."""
    width: int = 128
    """Channels of the VAE's first convolution: 128 as published, 8 or 16 for a CPU."""
    size: int = 32
    """Side of the images that the VAE works on, a multiple of 16; all others are resized."""
    vae_steps: int = 2
    """Steps of the VAE, and what learns with it, for each step of the task model and of the discriminator."""
    lr: float = 5e-4
    """Of both Adams."""
    _vae: VAE | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in ("fixed", "author"):
            raise ConfigError(f"strategy.mode = {self.mode!r}: it must be fixed or author")
        at_least(self, "strategy", 1, "latent", "width", "vae_steps")
        if self.size < 16 or self.size % 16:
            raise ConfigError(f"strategy.size = {self.size}: give a multiple of 16")
        above_zero(self, "strategy", "lr")

    def begin(
        self, setting: Setting, vae: VAE, beside: Mapping[str, nn.Module], discriminator: Discriminator, purpose: str
    ) -> None:
        """Puts the networks where the model is, with their optimizers. beside: what learns with the VAE, by name."""
        for network in (vae, *beside.values(), discriminator):
            setting.place(network)
        self._vae, self._beside, self._discriminator = vae, dict(beside), discriminator
        generator = [p for network in (vae, *beside.values()) for p in network.parameters()]
        self._vae_optimizer = torch.optim.Adam(generator, self.lr)
        self._discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), self.lr)
        self._pairs = Pairs(setting.labeled, setting.unlabeled, purpose, self.vae_steps)
        self._last: dict[str, Tensor] = {}

    def logit(self, batch: Batch) -> Float[Tensor, " b"]:
        """D's logit of mu, for `measure`."""
        if self._vae is None:
            who = type(self).__name__
            raise SelectionError(f"{who} has no networks yet: train with this object first (`train` attaches it)")
        mu, _ = self._vae.encode(resized(batch.x, self.size))
        logit: Tensor = self._discriminator(mu)
        return logit

    def logits(self, images: tuple[Images, Images]) -> tuple[Float[Tensor, " l"], Float[Tensor, " u"]]:
        """D's logits of labeled and unlabeled images as the VAE is now; no gradient goes into the VAE."""
        assert self._vae is not None
        with torch.no_grad():
            mu_l, mu_u = (self._vae.encode(x)[0] for x in images)
        return self._discriminator(mu_l), self._discriminator(mu_u)

    def state(self) -> Mapping[str, Stateful]:
        if self._vae is None:
            return {}
        return {
            "vae": self._vae,
            **self._beside,
            "discriminator": self._discriminator,
            "vae_optimizer": self._vae_optimizer,
            "discriminator_optimizer": self._discriminator_optimizer,
        }

    def metrics(self) -> Metrics:
        """Of the last step."""
        return {} if self._vae is None else {name: float(value) for name, value in self._last.items()}
