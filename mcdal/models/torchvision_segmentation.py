"""torchvision's networks for segmentation, DeepLabV3 and LR-ASPP, and, if given, weights from a local file."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mcdal.errors import ConfigError
from mcdal.models.base import Architecture, Model
from mcdal.models.dense import PixelHead, Upsampling, enlarge, taps, widest
from mcdal.models.pretrained import as_colour, check_channels, fit_weights, read_weights
from mcdal.values import Output

Name: TypeAlias = Literal[
    "deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"
]

CLASSIFIERS: dict[str, tuple[str, ...]] = {
    "deeplabv3_resnet50": ("classifier.4",),
    "deeplabv3_resnet101": ("classifier.4",),
    "deeplabv3_mobilenet_v3_large": ("classifier.4",),
    "lraspp_mobilenet_v3_large": ("classifier.low_classifier", "classifier.high_classifier"),
}
"""torchvision's names of the 1x1 convolutions that make the logits, by network."""
RESNET_STAGES = ("layer1", "layer2", "layer3", "layer4")
MOBILENET_STAGES = ("3", "6", "12", "16")
"""Its last blocks at stride 4, 8 and 16, and its last layer."""


class Pooled(nn.Module):
    """ASPP's branch for the whole image: the mean over space, a 1x1 convolution with BatchNorm and ReLU, at every place.

    torchvision repeats the one value by `interpolate`, whose backward pass is not deterministic on CUDA, or slow.
    """

    def __init__(self, pooling: nn.Sequential):
        super().__init__()
        self.layers = nn.Sequential(*pooling)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        y: Tensor = self.layers(x)
        return y.expand(-1, -1, x.shape[2], x.shape[3])


class DeepLab(Model):
    """features: (b, 256, h / 8, w / 8), or h / 16 with MobileNet; sides rounded up. logits: (b, classes, h, w).

    stages: ResNet's four (strides 4, 8, 8, 8), or MobileNet's last blocks at strides 4, 8, 16 and its last layer.
    """

    def __init__(self, net: Any, size: tuple[int, int]):
        super().__init__()
        self.backbone = net.backbone
        aspp, *between, seg = net.classifier
        aspp.convs[-1] = Pooled(aspp.convs[-1])
        self.neck = nn.Sequential(aspp, *between)
        self.names = RESNET_STAGES if "layer4" in self.backbone else MOBILENET_STAGES
        stride = 8 if "layer4" in self.backbone else 16
        self.head = PixelHead(seg, Upsampling(stride, size))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Output:
        encoded, stages = taps(self.backbone, as_colour(x), self.names)
        features: Tensor = widest(self.neck(encoded))
        return Output(self.head(features, (x.shape[2], x.shape[3])), features, tuple(stages.values()))


class LRASPP(Model):
    """features: (b, 40 + 128, h / 8, w / 8), sides rounded up. logits: (b, classes, h, w). stages: as DeepLab's.

    torchvision adds what one 1x1 convolution says of a low map to what another says of a high one. Here the two maps are laid
    one on the other, and one convolution, both side by side, says the same of them: so the head needs `features` alone.
    """

    def __init__(self, net: Any, size: tuple[int, int]):
        super().__init__()
        classifier = net.classifier
        self.backbone = net.backbone
        self.cbr, self.scale = classifier.cbr, classifier.scale
        self.low = next(name for name, called in net.backbone.return_layers.items() if called == "low")
        low, high = classifier.low_classifier, classifier.high_classifier
        seg = nn.Conv2d(low.in_channels + high.in_channels, low.out_channels, 1)
        self.head = PixelHead(seg, Upsampling(8, size))

    def join(self, classifier: Any) -> None:
        """Makes the head say what torchvision's two classifiers say together."""
        low, high = classifier.low_classifier, classifier.high_classifier
        weight, bias = torch.cat([low.weight, high.weight], 1), low.bias + high.bias
        self.head.load_state_dict({"seg.weight": weight.detach(), "seg.bias": bias.detach()})

    def forward(self, x: Float[Tensor, "b c h w"]) -> Output:
        high, heard = taps(self.backbone, as_colour(x), {*MOBILENET_STAGES, self.low})
        low = heard[self.low]
        high = enlarge(self.cbr(high) * self.scale(high), (low.shape[2], low.shape[3]))
        features = widest(torch.cat([low, high], 1))
        logits = self.head(features, (x.shape[2], x.shape[3]))
        return Output(logits, features, tuple(heard[name] for name in MOBILENET_STAGES))


@dataclass(frozen=True)
class TorchvisionSegmentation(Architecture):
    """DeepLabV3 (Chen et al. 2017) or LR-ASPP (Howard et al. 2019) as torchvision builds them, without the auxiliary head.

    Images of one channel are repeated to three. DeepLabV3 cannot be trained on one image at a time.
    """

    dense = True

    name: Name = "deeplabv3_resnet50"
    """torchvision's name: lraspp_mobilenet_v3_large has 3 million parameters, deeplabv3_resnet50 has 40 million."""

    weights: str | None = None
    """A local file (.pth or .safetensors) for the whole network, or of a classifier of images for its encoder alone."""

    def __post_init__(self) -> None:
        if self.name not in CLASSIFIERS:
            raise ConfigError(f"model.name is {self.name!r}; it must be one of {', '.join(CLASSIFIERS)}")

    def build(self, classes: int, channels: int, size: tuple[int, int]) -> DeepLab | LRASPP:
        """Newly initialised as torchvision does, or with the weights of the file; ConfigError if they do not fit.

        A classifier of other classes in the file is left out.
        """
        try:
            from torchvision import models
        except ImportError as error:
            raise ConfigError("model torchvision_segmentation needs a package: pip install 'mcdal[vision]'") from error
        check_channels(channels, "model torchvision_segmentation")
        options = {} if self.name.startswith("lraspp") else {"aux_loss": False}
        net: Any = models.get_model(self.name, weights=None, weights_backbone=None, num_classes=classes, **options)
        classified = self.weights is not None and self._load(net, self.weights)
        model = LRASPP(net, size) if self.name.startswith("lraspp") else DeepLab(net, size)
        if isinstance(model, LRASPP) and classified:
            model.join(net.classifier)
        model.rebuild = partial(self.build, classes, channels, size)
        return model

    def _load(self, net: nn.Module, path: str) -> bool:
        """The weights of the file into torchvision's network; says whether those of the classifier are among them."""
        weights = read_weights(path)
        own = net.state_dict()
        last = [f"{name}.{part}" for name in CLASSIFIERS[self.name] for part in ("weight", "bias")]
        if not any(key.startswith("backbone.") for key in weights):
            fit_weights(net, _of_encoder(weights), path, [key for key in own if not key.startswith("backbone.")])
            return False
        weights = {key: value for key, value in weights.items() if not key.startswith("aux_classifier.")}
        classified = all(key in weights and weights[key].shape == own[key].shape for key in last)
        if not classified:
            weights = {key: value for key, value in weights.items() if key not in last}
        fit_weights(net, weights, path, last)
        return classified


def _of_encoder(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a classifier of images, a ResNet or MobileNet of torchvision, has in common with the encoder."""
    dropped = ("fc.", "classifier.")
    return {f"backbone.{k.removeprefix('features.')}": v for k, v in weights.items() if not k.startswith(dropped)}
