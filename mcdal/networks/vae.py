"""The variational autoencoder of VAAL and SRAAL: convolutions down to a latent vector, and up again."""

from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mcdal.errors import ConfigError
from mcdal.ranks import of_whole


class Seen(NamedTuple):
    """What the autoencoder makes of images. z: drawn from N(mu, exp(logvar)). image: made of the first `decoded` numbers of z."""

    image: Float[Tensor, "b c s s"]
    z: Float[Tensor, "b z"]
    mu: Float[Tensor, "b z"]
    logvar: Float[Tensor, "b z"]


class VAE(nn.Module):
    """Sinha et al. 2019, as published at width 128 and size 32 (w = `width`, s = `size`, z = `latent`, d = `decoded` or z):

    encoder: four convolutions 4x4, stride 2, to w, 2w, 4w, 8w channels, BatchNorm and ReLU each -> two linear layers to mu and
    logvar.
    decoder: linear from d to 8w x s/8 x s/8 -> three transposed convolutions 4x4, stride 2, to 4w, 2w, w channels, BatchNorm and
    ReLU each -> transposed convolution 1x1 to the image's channels, linear.

    Images are s x s: see `resized`. mu and logvar are float32 or wider also under autocast. PyTorch's default initialisation.
    """

    def __init__(self, channels: int, latent: int, width: int = 128, size: int = 32, decoded: int | None = None):
        super().__init__()
        if size < 16 or size % 16:
            raise ConfigError(f"strategy.size = {size}: four convolutions halve an image, so give a multiple of 16")
        if width < 1:
            raise ConfigError(f"strategy.width = {width}: give at least 1")
        widths = [width * factor for factor in (1, 2, 4, 8)]
        self.decoded = latent if decoded is None else decoded
        self.trunk = nn.Sequential(*(_down(i, o) for i, o in pairwise([channels, *widths])))
        top = widths[-1] * (size // 16) ** 2
        self.to_mu, self.to_logvar = nn.Linear(top, latent), nn.Linear(top, latent)
        self.decoder = nn.Sequential(
            nn.Linear(self.decoded, 4 * top),
            nn.Unflatten(1, (widths[-1], size // 8, size // 8)),
            *(_up(i, o) for i, o in pairwise(reversed(widths))),
            nn.ConvTranspose2d(width, channels, 1),
        )

    def forward(self, x: Float[Tensor, "b c s s"]) -> Seen:
        mu, logvar = self.encode(x)
        z = mu + (logvar / 2).exp() * of_whole(mu, torch.randn_like)
        return Seen(self.decoder(z[:, : self.decoded]).to(x.dtype), z, mu, logvar)

    def encode(self, x: Float[Tensor, "b c s s"]) -> tuple[Float[Tensor, "b z"], Float[Tensor, "b z"]]:
        """mu, logvar"""
        maps = self.trunk(x).flatten(1)
        with torch.autocast(x.device.type, enabled=False):
            maps = maps.to(self.to_mu.weight.dtype)
            return self.to_mu(maps), self.to_logvar(maps)


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def resized(x: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c {size} {size}"]:
    """Images of size x size: bilinear, with antialiasing where they shrink; those of that size as they are."""
    if x.shape[2:] == (size, size):
        return x
    return F.interpolate(x, (size, size), mode="bilinear", antialias=True)


def kl_to_normal(mu: Float[Tensor, "b z"], logvar: Float[Tensor, "b z"]) -> Float[Tensor, " b"]:
    """KL(N(mu, exp(logvar)) | N(0, 1)) in nats, the sum over the latent dimensions."""
    return -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(1)
