"""DAAL's networks on features: a score for each sample, an autoencoder of its two shares, and a discriminator of each."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mcdal.networks.dpp import log_dpp
from mcdal.networks.mlp import mlp
from mcdal.networks.own_steps import descend
from mcdal.networks.vae import kl_to_normal

Features = Float[Tensor, "b d"]
SCORE = (256, 256, 128, 64, 1)
"""Widths of the layers of ScoreNet and both discriminators."""


@dataclass(frozen=True)
class Weights:
    """Of the terms that ScoreNet and the autoencoder minimise; see `DualAdversary`."""

    adversarial: float = 1.0
    prior: float = 1.0
    reconstruction: float = 1.0
    sparsity: float = 1.0
    dpp: float = 1.0


class Branch(NamedTuple):
    """What the autoencoder makes of one share of the features."""

    made: Features
    mu: Float[Tensor, "b z"]
    logvar: Float[Tensor, "b z"]


class FeatureVAE(nn.Module):
    """d -> six layers of `width` -> mu, logvar (the seventh) -> z -> six layers of `width` -> d, with dropout."""

    def __init__(self, d: int, latent: int, width: int, dropout: float):
        super().__init__()
        hidden = (width,) * 6
        self.encoder = mlp(d, *hidden, 2 * latent, dropout=dropout)
        self.decoder = mlp(latent, *hidden, d, dropout=dropout)

    def forward(self, x: Features) -> Branch:
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return Branch(self.decoder(mu + (logvar / 2).exp() * torch.randn_like(mu)), mu, logvar)


class DualAdversary:
    """ScoreNet s(x) in [0, 1], a VAE, uDis and rDis, with an Adam for the first two and one for the discriminators.

    x_l, x_u: features of labeled and unlabeled samples. x^ = VAE((1 - s) x_u) is to pass for labeled before uDis, x~ = VAE(s x_u)
    for unlabeled before rDis:

        L_GAN = E log uDis(x_l) + E log(1 - uDis(x^)) + E log rDis(x_u) + E log(1 - rDis(x~))

    which the discriminators ascend. Then ScoreNet and the VAE descend, on the same batch,

        adversarial L_GAN + prior L_KL + reconstruction (|x^ - x_u|^2 + |x~ - x_u|^2) / 2
            + sparsity |share - mean s| - dpp log P_DPP(s)

    with KL, the sum of both branches, and squares divided by the length of the features, and log P_DPP by the size of the batch.
    """

    def __init__(self, d: int, latent: int, width: int, dropout: float, share: float, lr: float, weights: Weights):
        self.score_net, self.u_dis, self.r_dis = (mlp(d, *SCORE) for _ in range(3))
        self.vae = FeatureVAE(d, latent, width, dropout)
        self._share, self._weights = share, weights
        self._generator = torch.optim.Adam([*self.score_net.parameters(), *self.vae.parameters()], lr)
        self._critics = torch.optim.Adam([*self.u_dis.parameters(), *self.r_dis.parameters()], lr)

    def score_logits(self, x: Features) -> Float[Tensor, " b"]:
        """logit of s(x)"""
        logits: Tensor = self.score_net(x)
        return logits.squeeze(1)

    def step(self, x_l: Float[Tensor, "l d"], x_u: Float[Tensor, "u d"]) -> None:
        """Both discriminators, then ScoreNet and the VAE."""
        s = self.score_logits(x_u).sigmoid()
        certain, representative = self.vae((1 - s)[:, None] * x_u), self.vae(s[:, None] * x_u)
        descend(self._critics, -self._gan(x_l, x_u, certain.made.detach(), representative.made.detach()))
        descend(self._generator, self.loss(x_l, x_u, s, certain, representative))

    def _gan(
        self,
        x_l: Float[Tensor, "l d"],
        x_u: Float[Tensor, "u d"],
        certain: Float[Tensor, "u d"],
        representative: Float[Tensor, "u d"],
    ) -> Float[Tensor, ""]:
        """L_GAN, by log D = log sigmoid(logit) and log(1 - D) = log sigmoid(-logit)."""
        terms = (self.u_dis(x_l), -self.u_dis(certain), self.r_dis(x_u), -self.r_dis(representative))
        return torch.stack([F.logsigmoid(logit).mean() for logit in terms]).sum()

    def loss(
        self,
        x_l: Float[Tensor, "l d"],
        x_u: Float[Tensor, "u d"],
        s: Float[Tensor, " u"],
        certain: Branch,
        representative: Branch,
    ) -> Float[Tensor, ""]:
        """What ScoreNet and the VAE descend."""
        w, d = self._weights, x_u.shape[1]
        prior = (kl_to_normal(*certain[1:]) + kl_to_normal(*representative[1:])).mean() / d
        squares = ((certain.made - x_u).square() + (representative.made - x_u).square()).mean() / 2
        diverse = log_dpp(s, x_u, max(1, round(self._share * len(s)))) / len(s)
        sparse = w.sparsity * (self._share - s.mean()).abs() - w.dpp * diverse
        adversarial = self._gan(x_l, x_u, certain.made, representative.made)
        return w.adversarial * adversarial + w.prior * prior + w.reconstruction * squares + sparse
