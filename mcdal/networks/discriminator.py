"""A discriminator of latent vectors: does this image look labeled?"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mcdal.networks.mlp import mlp


class Discriminator(nn.Module):
    """latent -> `hidden` layers of `width` with ReLU -> one logit. In float32 or wider also under autocast."""

    def __init__(self, latent: int, hidden: int, width: int = 512):
        super().__init__()
        self.layers = mlp(latent, *(width for _ in range(hidden)), 1)

    def forward(self, z: Float[Tensor, "b z"]) -> Float[Tensor, " b"]:
        with torch.autocast(z.device.type, enabled=False):
            logit: Tensor = self.layers(z.to(next(self.parameters()).dtype))
        return logit.squeeze(1)
