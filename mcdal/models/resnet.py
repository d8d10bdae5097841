"""Residual networks trained from scratch: the paper's ResNet-18 for 32x32 images, and smaller and larger ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from mcdal.errors import ConfigError
from mcdal.models.base import Architecture, Model, apply_head, global_average
from mcdal.values import Output

BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the size (over the stride), and BatchNorm in place of its bias."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)); the shortcut is a 1x1 convolution only where the shape changes."""

    def __init__(self, body: nn.Sequential, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.body = body
        same = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        y: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return y


def basic_block(inputs: int, width: int, stride: int) -> Residual:
    """Two 3x3 convolutions, for depths 10 to 34; gives `width` channels."""
    body = nn.Sequential(conv_bn(inputs, width, 3, stride), nn.ReLU(inplace=True), conv_bn(width, width, 3))
    return Residual(body, inputs, width, stride)


def bottleneck(inputs: int, width: int, stride: int) -> Residual:
    """1x1, 3x3 (which strides), 1x1, for depth 50; gives 4 * `width` channels."""
    body = nn.Sequential(
        conv_bn(inputs, width, 1),
        nn.ReLU(inplace=True),
        conv_bn(width, width, 3, stride),
        nn.ReLU(inplace=True),
        conv_bn(width, 4 * width, 1),
    )
    return Residual(body, inputs, 4 * width, stride)


class ResNetModel(Model):
    """stem -> four stages -> global average -> linear head. `stages` are the outputs of the four stages."""

    def __init__(self, stem: nn.Module, stages: Iterable[nn.Module], head: nn.Linear):
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.head = head

    def forward(self, x: Float[Tensor, "b c h w"]) -> Output:
        x = self.stem(x)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        features = global_average(x)
        return Output(apply_head(self.head, features), features, tuple(outputs))


@dataclass(frozen=True)
class ResNet(Architecture):
    """A residual network (He et al. 2016) with PyTorch's default initialisation.

    The defaults are the paper's network: 11,173,962 parameters at 10 classes. Stages have 1, 2, 4 and 8 times `width`
    channels (4 times that at depth 50) and strides 1, 2, 2, 2.
    """

    depth: Literal[10, 18, 34, 50] = 18
    """Number of layers. 10 has one block a stage, 50 has bottleneck blocks."""

    width: int = 64
    """Channels of the first stage. 64 is the paper's; 16 is sixteen times lighter, for a CPU."""

    stem: Literal["3x3", "7x7"] = "3x3"
    """First layer: 3x3 at full resolution for images of about 32 pixels; 7x7 stride 2 with max-pooling for more."""

    def __post_init__(self) -> None:
        if self.depth not in BLOCKS:
            raise ConfigError(f"resnet: depth is {self.depth}; it must be one of {', '.join(map(str, BLOCKS))}")
        if self.width < 1:
            raise ConfigError(f"resnet: width is {self.width}; it must be at least 1")
        if self.stem not in ("3x3", "7x7"):
            raise ConfigError(f"resnet: stem is {self.stem!r}; it must be '3x3' or '7x7'")

    def build(self, classes: int, channels: int, size: tuple[int, int]) -> ResNetModel:
        """A new network for images of any size; features have 8 * `width` channels (32 * `width` at depth 50)."""
        expansion = 4 if self.depth == 50 else 1
        widths = [self.width * factor for factor in (1, 2, 4, 8)]
        inputs = [self.width, *(expansion * width for width in widths)]
        stem = self._stem(channels)
        stages = [
            self._stage(inputs=before, outputs=after, blocks=blocks, stride=stride)
            for (before, after), blocks, stride in zip(pairwise(inputs), BLOCKS[self.depth], (1, 2, 2, 2), strict=True)
        ]
        return ResNetModel(stem, stages, nn.Linear(inputs[-1], classes))

    def _stem(self, channels: int) -> nn.Sequential:
        if self.stem == "3x3":
            return nn.Sequential(conv_bn(channels, self.width, 3), nn.ReLU(inplace=True))
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        return nn.Sequential(conv_bn(channels, self.width, 7, stride=2), nn.ReLU(inplace=True), pool)

    def _stage(self, inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        block, width = (bottleneck, outputs // 4) if self.depth == 50 else (basic_block, outputs)
        first = block(inputs, width, stride)
        return nn.Sequential(first, *(block(outputs, width, 1) for _ in range(blocks - 1)))
