"""Any network of timm by its name (timm:NAME), with weights from a local file."""

import difflib
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from mcdal.encoders.base import RANDOM, Built, Encoder, randomly, sides
from mcdal.errors import ConfigError
from mcdal.models.pretrained import load_weights

DOWNLOAD = "download"


class Pooled(nn.Module):
    """timm's network without its classifier."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b e"]:
        features: Tensor = self.encoder(x)
        return features


@dataclass(frozen=True)
class TimmEncoder(Encoder):
    """`--encoder timm:resnet50 --set encoder.weights=FILE`: what timm gives before its classifier.

    Size, mean, deviation and interpolation are those that timm knows of the name, so name the weights' own variant, such as
    `timm:vit_small_patch14_dinov2.lvd142m`.
    """

    name: str = "resnet18"
    """timm's name: resnet50.a1_in1k, convnext_tiny.fb_in22k, vit_small_patch14_dinov2.lvd142m, ..."""
    weights: str | None = None
    """A local file (.safetensors, .pth). download: what timm fetches or has fetched by itself. random: none, as a control."""
    size: int | None = None
    """Side in pixels that images are resized to; null: the network's own."""

    def build(self) -> Built:
        try:
            import timm
        except ImportError as error:
            raise ConfigError("the encoder timm needs a package: pip install 'mcdal[vision]'") from error
        if not timm.is_model(self.name):
            near = difflib.get_close_matches(self.name, timm.list_models(), n=5, cutoff=0.5)
            raise ConfigError(f"timm has no {self.name!r} to take as an encoder; near: {', '.join(near) or 'none'}")
        if self.weights is None:
            raise ConfigError(
                f"the encoder timm:{self.name} has no weights, and random ones would teach nothing: give a local file, "
                "--set encoder.weights=FILE (such as model.safetensors of huggingface.co/timm), or let timm fetch them where "
                "there is a network, --set encoder.weights=download; --set encoder.weights=random takes random ones"
            )
        made, config = self._network(), None
        config = made.pretrained_cfg
        if self.weights not in (DOWNLOAD, RANDOM):
            classifier = config["classifier"] or "none"
            names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
            load_weights(made, nn.Linear(1, 1), self.weights, names)
        return Built(
            Pooled(made).eval(), sides(self.size, tuple(config["input_size"][1:])), tuple(config["mean"]),
            tuple(config["std"]), "bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        )  # fmt: skip

    def _network(self) -> Any:
        import timm

        known = timm.get_pretrained_cfg(self.name)
        fixed = self.size is not None and known is not None and known.fixed_input_size
        sized: dict[str, Any] = {"img_size": self.size} if fixed else {}

        def make() -> Any:
            return timm.create_model(self.name, pretrained=self.weights == DOWNLOAD, num_classes=0, **sized)

        try:
            return randomly(make)
        except Exception as error:  # whatever a download ends with
            if self.weights != DOWNLOAD:
                raise
            raise ConfigError(
                f"timm could not get the weights of {self.name} ({type(error).__name__}): without a network give a local file, "
                f"--set encoder.weights=FILE"
            ) from error
