"""Heads on the features of a frozen encoder: linear, or with one hidden layer."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from mcdal.checked import at_least
from mcdal.errors import ConfigError
from mcdal.models.base import Architecture, Model, apply_head
from mcdal.values import Output


class ProbeModel(Model):
    """What the head is given, and `Output.features`, are the encoder's features or those of the hidden layer. No stages."""

    def __init__(self, features: int, hidden: int, classes: int):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(features, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.head = nn.Linear(hidden or features, classes)

    def forward(self, x: Float[Tensor, "b e 1 1"]) -> Output:
        hidden: Tensor = self.hidden(x.flatten(1))
        features = hidden.to(x.dtype)  # bfloat16 under autocast
        return Output(apply_head(self.head, features), features)


@dataclass(frozen=True)
class Probe(Architecture):
    """For runs with an `encoder`: a linear head on its features, or a network of one hidden layer."""

    on_features: ClassVar[bool] = True

    hidden: int = 0
    """Units of a hidden layer with ReLU between the features and the head; 0: none, the head is all there is."""

    def __post_init__(self) -> None:
        at_least(self, "model", 0, "hidden")

    def build(self, classes: int, channels: int, size: tuple[int, int]) -> ProbeModel:
        """A new one for rows of `channels` features."""
        if size != (1, 1):
            raise ConfigError("model probe: it works on the features of an encoder, and this pool has images")
        return ProbeModel(channels, self.hidden, classes)
