"""A loss-prediction module: guesses each image's loss from the inner stages of the task model."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mcdal.models.base import global_average


class LossNet(nn.Module):
    """Each stage -> global average -> linear -> ReLU; all of them together -> linear -> one number an image.

    channels: of the stages. In float32 or wider also under autocast.
    """

    def __init__(self, channels: Sequence[int], width: int = 128):
        super().__init__()
        self.taps = nn.ModuleList(nn.Linear(c, width) for c in channels)
        self.out = nn.Linear(width * len(channels), 1)

    def forward(self, stages: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, " b"]:
        with torch.autocast(stages[0].device.type, enabled=False):
            pooled = [global_average(stage).to(self.out.weight.dtype) for stage in stages]
            said = [tap(x).relu() for tap, x in zip(self.taps, pooled, strict=True)]
            predicted: Tensor = self.out(torch.cat(said, 1))
        return predicted.squeeze(1)


def ranking_loss(predicted: Float[Tensor, " b"], losses: Float[Tensor, " b"], margin: float = 1.0) -> Float[Tensor, ""]:
    """Mean over the pairs (i, B - 1 - i) of max(0, margin - s (predicted_i - predicted_j)), s = 1 where l_i > l_j, else -1.

    The last sample of an odd batch has no partner and is left out. No gradient goes into `losses`.
    """
    half = len(predicted) // 2
    predicted, losses = predicted[: 2 * half], losses.detach()[: 2 * half]
    apart, truly = ((x - x.flip(0))[:half] for x in (predicted, losses))
    sign = torch.where(truly > 0, 1.0, -1.0)
    return (margin - sign * apart).clamp_min(0).mean()
