"""A small network for segmentation that a CPU trains: an encoder to stride 16, and a decoder with skips back to stride 4."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from mcdal.errors import ConfigError
from mcdal.models.base import Architecture, Model
from mcdal.models.dense import PixelHead, Upsampling, enlarge, widest
from mcdal.models.resnet import basic_block, conv_bn
from mcdal.values import Output


def conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(conv_bn(inputs, outputs, kernel, stride), nn.ReLU(inplace=True))


class Merge(nn.Module):
    """Enlarges a coarse map to the size of a fine one, adds that, and looks at both with a 3x3 convolution."""

    def __init__(self, skip: int, width: int):
        super().__init__()
        self.lateral = conv_bn(skip, width, 1)
        self.fuse = conv_bn_relu(width, width, 3)

    def forward(self, coarse: Float[Tensor, "b d h w"], fine: Float[Tensor, "b s H W"]) -> Float[Tensor, "b d H W"]:
        merged: Tensor = self.fuse(enlarge(coarse, (fine.shape[2], fine.shape[3])) + self.lateral(fine))
        return merged


class SmallSegmentationModel(Model):
    """features: (b, 2 * width, h / 4, w / 4), sides rounded up. logits: (b, classes, h, w).

    stages: those of the encoder, (b, width, h / 2, w / 2), (b, 2 * width, h / 4, w / 4), (b, 4 * width, h / 8, w / 8) and
    (b, 8 * width, h / 16, w / 16).
    """

    def __init__(self, classes: int, channels: int, width: int, size: tuple[int, int]):
        super().__init__()
        widths = [width * factor for factor in (1, 2, 4, 8)]
        first = conv_bn_relu(channels, width, 3, stride=2)
        self.stages = nn.ModuleList([first, *(basic_block(w // 2, w, stride=2) for w in widths[1:])])
        self.deepest = basic_block(widths[-1], widths[-1], stride=1)
        self.neck = conv_bn_relu(widths[-1], widths[1], 1)
        self.context = nn.Linear(widths[-1], widths[1])
        self.merges = nn.ModuleList(Merge(skip, widths[1]) for skip in (widths[2], widths[1]))
        self.head = PixelHead(nn.Conv2d(widths[1], classes, 1), Upsampling(4, size))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Output:
        size = x.shape[2], x.shape[3]
        stages: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        features = widest(self._decoded(stages))
        return Output(self.head(features, size), features, tuple(stages))

    def _decoded(self, stages: Sequence[Tensor]) -> Float[Tensor, "b d h w"]:
        deepest = self.deepest(stages[-1])
        around = self.context(deepest.mean((2, 3)))  # of the whole image: a place at stride 16 sees a part of it
        x: Tensor = self.neck(deepest) + around[:, :, None, None]
        for merge, skip in zip(self.merges, (stages[2], stages[1]), strict=True):
            x = merge(x, skip)
        return x


@dataclass(frozen=True)
class SmallSegmentation(Architecture):
    """Residual blocks to stride 16, skips back to stride 4, a 1x1 convolution as the head, and a bilinear enlargement."""

    dense = True

    width: int = 24
    """Channels of the first stage; the others have 2, 4 and 8 times as many, and the features 2 times."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"small_segmentation: width is {self.width}; it must be at least 1")

    def build(self, classes: int, channels: int, size: tuple[int, int]) -> SmallSegmentationModel:
        """A new network for images of any size."""
        return SmallSegmentationModel(classes, channels, self.width, size)
