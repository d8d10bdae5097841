"""Any encoder of timm by its name with a linear head and, if given, weights from a local file."""

import difflib
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mcdal.errors import ConfigError
from mcdal.models.base import Architecture, Model, apply_head
from mcdal.models.pretrained import as_colour, check_channels, load_weights
from mcdal.values import Output


class TimmModel(Model):
    """timm's encoder without its classifier, then our head. Grey images are repeated to three channels.

    `stages` are the last four feature maps where timm can give them, else empty.
    """

    def __init__(self, encoder: nn.Module, head: nn.Linear):
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x: Float[Tensor, "b c h w"]) -> Output:
        features, stages = encode(self.encoder, as_colour(x))
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        return Output(apply_head(self.head, features), features, stages)


def encode(encoder: Any, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b d"], tuple[Tensor, ...]]:
    """Pooled features and stages in one pass."""
    if not hasattr(encoder, "forward_intermediates"):
        return encoder(x), ()
    last, stages = encoder.forward_intermediates(x, indices=4)
    return encoder.forward_head(last), tuple(stages)


@dataclass(frozen=True)
class Timm(Architecture):
    """An encoder of timm: convolutional networks for any size, transformers for the size of the images.

    Images of one channel are repeated to three.
    """

    name: str = "resnet18"
    """timm's name: resnet18, convnext_atto, mobilenetv3_small_050, vit_tiny_patch16_224, ..."""

    weights: str | None = None
    """A local file of weights (.pth or .safetensors); a classifier of other classes in it is left out."""

    def build(self, classes: int, channels: int, size: tuple[int, int]) -> TimmModel:
        """Newly initialised as timm does, or with the weights of the file; ConfigError if they do not fit."""
        try:
            import timm
        except ImportError as error:
            raise ConfigError("model timm needs a package: pip install 'mcdal[vision]'") from error
        check_channels(channels, "model timm")
        if not timm.is_model(self.name):
            near = difflib.get_close_matches(self.name, timm.list_models(), n=5, cutoff=0.5)
            raise ConfigError(
                f"model.name is {self.name!r}, which timm does not have; near: {', '.join(near) or 'none'}"
            )
        known = timm.get_pretrained_cfg(self.name)
        sized: dict[str, Any] = {"img_size": size} if known is not None and known.fixed_input_size else {}
        encoder: Any = timm.create_model(self.name, pretrained=False, num_classes=0, **sized)
        head = nn.Linear(self._dimension(encoder, size), classes)
        if self.weights is not None:
            classifier = encoder.pretrained_cfg["classifier"]
            names = (classifier,) if isinstance(classifier, str) else tuple(classifier)  # a distilled network has two
            load_weights(encoder, head, self.weights, names)
        model = TimmModel(encoder, head)
        model.rebuild = partial(self.build, classes, channels, size)
        return model

    def _dimension(self, encoder: nn.Module, size: tuple[int, int]) -> int:
        """Length of the features: asked of a black image, because encoders name it in different ways."""
        with torch.no_grad():
            features, _ = encode(encoder.eval(), torch.zeros(1, 3, *size))
        encoder.train()
        if features.ndim != 2:
            shape = tuple(features.shape)
            raise ConfigError(f"model.name {self.name!r} gives features of shape {shape}, not one vector an image")
        return features.shape[1]
