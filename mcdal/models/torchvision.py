"""Any ResNet of torchvision by its name, with ImageNet's stem and, if given, weights from a local file."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from mcdal.errors import ConfigError
from mcdal.models.base import Architecture, Model, apply_head, global_average
from mcdal.models.pretrained import as_colour, check_channels, load_weights
from mcdal.values import Output


class TorchvisionModel(Model):
    """torchvision's network up to its last stage, then our average and head. Grey is repeated to three channels."""

    def __init__(self, encoder: nn.Module, head: nn.Linear):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x: Float[Tensor, "b c h w"]) -> Output:
        net: Any = self.encoder
        x = net.maxpool(net.relu(net.bn1(net.conv1(as_colour(x)))))
        stages = []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            stages.append(x)
        features = global_average(x)
        return Output(apply_head(self.head, features), features, tuple(stages))


@dataclass(frozen=True)
class Torchvision(Architecture):
    """A ResNet, ResNeXt or Wide ResNet of torchvision, for images of about 64 pixels and more.

    Images of one channel are repeated to three.
    """

    name: str = "resnet18"
    """torchvision's name: resnet18, resnet50, resnext50_32x4d, wide_resnet50_2, ..."""

    weights: str | None = None
    """A local file of weights (.pth or .safetensors); a classifier of other classes in it is left out."""

    def build(self, classes: int, channels: int, size: tuple[int, int]) -> TorchvisionModel:
        """Newly initialised as torchvision does, or with the weights of the file; ConfigError if they do not fit."""
        try:
            from torchvision import models
        except ImportError as error:
            raise ConfigError("model torchvision needs a package: pip install 'mcdal[vision]'") from error
        check_channels(channels, "model torchvision")
        names = [n for n in models.list_models(module=models) if "resne" in n]
        if self.name not in names:
            raise ConfigError(f"model.name is {self.name!r}; torchvision's ResNets are {', '.join(names)}")
        encoder = models.get_model(self.name, weights=None)
        head = nn.Linear(encoder.fc.in_features, classes)
        encoder.fc = nn.Identity()
        if self.weights is not None:
            load_weights(encoder, head, self.weights, ("fc",))
        model = TorchvisionModel(encoder, head)
        model.rebuild = partial(self.build, classes, channels, size)
        return model
