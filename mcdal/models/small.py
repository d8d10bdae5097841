"""A small convolutional network for very small images on a CPU: 8x8 digits, 28x28 clothes."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from mcdal.errors import ConfigError
from mcdal.models.base import Architecture, Model, apply_head, global_average
from mcdal.values import Output


class SmallConvModel(Model):
    """Three stages of convolution, BatchNorm and ReLU -> global average -> linear head."""

    def __init__(self, classes: int, channels: int, width: int, strides: tuple[int, ...]):
        super().__init__()
        widths = [width * 2**i for i in range(len(strides))]
        inputs = [channels, *widths[:-1]]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
            )
            for before, after, stride in zip(inputs, widths, strides, strict=True)
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Output:
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        features = global_average(x)
        return Output(apply_head(self.head, features), features, tuple(outputs))


@dataclass(frozen=True)
class SmallConv(Architecture):
    """Three 3x3 convolutions of 1, 2 and 4 times `width` channels. Learns 8x8 digits in seconds on one core."""

    width: int = 32
    """Channels of the first stage; features have 4 times as many."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"small: width is {self.width}; it must be at least 1")

    def build(self, classes: int, channels: int, size: tuple[int, int]) -> SmallConvModel:
        """A new network. Images of more than 16 pixels are halved once more, in the first stage."""
        first = 2 if min(size) > 16 else 1
        return SmallConvModel(classes, channels, self.width, strides=(first, 2, 2))
