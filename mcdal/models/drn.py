"""Dilated residual networks for segmentation: DRN-C-26 and DRN-D-22, 24 and 38, a class for every pixel at stride 8."""

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor, nn

from mcdal.errors import ConfigError
from mcdal.models.base import Architecture, Model
from mcdal.models.dense import PixelHead, Upsampling, taps, widest
from mcdal.models.pretrained import as_colour, check_channels, load_weights
from mcdal.values import Output

Name: TypeAlias = Literal["drn_c_26", "drn_d_22", "drn_d_24", "drn_d_38"]

REPEATS: dict[str, tuple[int, ...]] = {
    "drn_c_26": (1, 1, 2, 2, 2, 2, 1, 1),
    "drn_d_22": (1, 1, 2, 2, 2, 2, 1, 1),
    "drn_d_24": (1, 1, 2, 2, 2, 2, 2, 2),
    "drn_d_38": (1, 1, 3, 4, 6, 3, 1, 1),
}
"""Convolutions or blocks in each of the layers 1 to 8."""
WIDTHS = (16, 32, 64, 128, 256, 512, 512, 512)
STRIDES = (1, 2, 2, 2, 1, 1, 1, 1)
DILATIONS = (1, 1, 1, 1, 2, 4, 2, 1)
STAGES = ("layer3", "layer4", "layer5", "layer6")


class Conv(nn.Conv2d):
    """Keeps the size (over the stride). Weights are drawn from N(0, 2 / (k * k * outputs)), as DRN does; biases are 0."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, bias: bool = False):
        super().__init__(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation, bias=bias)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=sqrt(2 / (self.kernel_size[0] * self.kernel_size[1] * self.out_channels)))
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class Block(nn.Module):
    """relu(two 3x3 convolutions of x + x), or without the + x: DRN takes the shortcut away behind its widest dilation."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, residual: bool = True):
        super().__init__()
        self.conv1 = Conv(inputs, width, 3, stride, dilation)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = Conv(width, width, 3, dilation=dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.residual = residual
        same = stride == 1 and inputs == width
        self.downsample = None if same else nn.Sequential(Conv(inputs, width, 1, stride), nn.BatchNorm2d(width))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        y: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.residual:
            y = y + (x if self.downsample is None else self.downsample(x))
        made: Tensor = self.relu(y)
        return made


def encoder(name: Name) -> nn.Sequential:
    """Layers named as in DRN's published files. Kind C begins and ends with blocks where D has plain convolutions."""
    blocks, stem = name.startswith("drn_c"), [Conv(3, WIDTHS[0], 7), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU(inplace=True)]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers |= zip(("conv1", "bn1", "relu"), stem, strict=True) if blocks else {"layer0": nn.Sequential(*stem)}
    inputs = WIDTHS[0]
    for number, repeats, width, stride, dilation in zip(
        range(1, 9), REPEATS[name], WIDTHS, STRIDES, DILATIONS, strict=True
    ):
        parts: list[nn.Module] = []
        for i in range(repeats):
            before, step = (inputs, stride) if i == 0 else (width, 1)
            if blocks or 3 <= number <= 6:
                parts.append(Block(before, width, step, dilation, residual=number <= 6))
            else:
                parts += [Conv(before, width, 3, step, dilation), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers[f"layer{number}"] = nn.Sequential(*parts)
        inputs = width
    return nn.Sequential(layers)


class DRNModel(Model):
    """features: (b, 512, h / 8, w / 8), sides rounded up. logits: (b, classes, h, w).

    stages: the four layers of residual blocks, (b, 64, h / 4, w / 4) and (b, 128 to 512, h / 8, w / 8).
    """

    def __init__(self, encoder: nn.Sequential, head: PixelHead):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x: Float[Tensor, "b c h w"]) -> Output:
        features, stages = taps(self.encoder, as_colour(x), STAGES)
        features = widest(features)
        return Output(self.head(features, (x.shape[2], x.shape[3])), features, tuple(stages.values()))


@dataclass(frozen=True)
class DRN(Architecture):
    """A dilated residual network (Yu, Koltun, Funkhouser 2017) with the head of its authors for segmentation.

    The head is a 1x1 convolution, 9,747 parameters at 19 classes, and a fixed bilinear enlargement. Images of one channel are
    repeated to three.
    """

    dense = True

    name: Name = "drn_d_22"
    """Which of them: drn_d_22 has 15.9 million parameters, drn_c_26, drn_d_24 and drn_d_38 have more layers."""

    weights: str | None = None
    """A local file of weights, such as the published drn_d_22-*.pth; a classifier of other classes in it is left out."""

    def __post_init__(self) -> None:
        if self.name not in REPEATS:
            raise ConfigError(f"model.name is {self.name!r}; it must be one of {', '.join(REPEATS)}")

    def build(self, classes: int, channels: int, size: tuple[int, int]) -> DRNModel:
        """Newly initialised as its authors do, or with the weights of the file; ConfigError if they do not fit."""
        check_channels(channels, "model drn")
        seg = Conv(WIDTHS[-1], classes, 1, bias=True)
        model = DRNModel(encoder(self.name), PixelHead(seg, Upsampling(8, size, published=True)))
        if self.weights is not None:
            load_weights(model.encoder, seg, self.weights, ("fc",))
        model.rebuild = partial(self.build, classes, channels, size)
        return model
