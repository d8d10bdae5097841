"""A frozen encoder: a network with its weights and the preprocessing that belongs to them; images in, feature rows out."""

import dataclasses
import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from mcdal.device import Numerics
from mcdal.errors import ConfigError
from mcdal.models.pretrained import as_colour

RANDOM = "random"
"""What `weights` is where somebody asks for an encoder that has learned nothing: a control."""


@dataclass(frozen=True)
class Built:
    """An encoder ready to be used. Images of 0 to 255 are resized to `size`, scaled to 0..1 and normalised by mean and std.

    network: (b, 3, *size) -> (b, e), in eval mode.
    """

    network: nn.Module
    size: tuple[int, int]
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"

    def place(self, numerics: Numerics) -> None:
        """In float32 whatever the precision of the training: features are computed once, for all runs."""
        self.network.to(numerics.device, torch.float32).eval().requires_grad_(False)
        if numerics.channels_last:
            self.network.to(memory_format=torch.channels_last)

    def features(self, x: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b e"]:
        """Of images on the network's device: bytes, or floats that are normalised already. Grey ones become colour."""
        with torch.inference_mode():
            found: Tensor = self.network(self.preprocess(x))
        if found.ndim != 2 or len(found) != len(x):
            raise ConfigError(f"the encoder gives features of shape {tuple(found.shape)}: it must be one row an image")
        return found.float()

    def preprocess(self, x: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b 3 size size2"]:
        """As the network takes them. Smaller ones are enlarged, larger ones reduced with antialiasing."""
        raw = not x.is_floating_point()
        if x.shape[1] not in (1, 3):
            raise ConfigError(f"an encoder takes images of 1 or 3 channels, and these have {x.shape[1]}")
        image = as_colour(x.float())
        if tuple(image.shape[2:]) != self.size:
            image = F.interpolate(image, self.size, mode=self.interpolation, align_corners=False, antialias=True)
        if not raw:
            return image
        mean, std = (torch.tensor(v, device=x.device)[:, None, None] * 255 for v in (self.mean, self.std))
        # Bicubic interpolation overshoots; image libraries cut it off at black and white.
        return (image.clamp(0, 255) - mean) / std


@dataclass(frozen=True)
class Encoder(ABC):
    """What makes features of images, once: a dataclass, whose fields are what the recipe may change (`--set encoder.FIELD=`).

    Write one in a file of your own and use it as `--encoder my_file.py:Mine`. The field `weights`, if it has one, says where
    the weights lie; they count by their content.
    """

    @abstractmethod
    def build(self) -> Built:
        """The network with its weights. ConfigError where these are missing: never another one, never random ones instead."""

    def digest(self, built: Built) -> str:
        """Changes with anything that decides the features: the fields, the weights, the preprocessing, somebody's own code."""
        sha = hashlib.sha256()
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "weights"}
        seen = (built.size, built.mean, built.std, built.interpolation)
        sha.update(repr((type(self).__qualname__, sorted(fields.items()), seen, str(built.network))).encode())
        if type(self).__module__.partition(".")[0] != "mcdal":
            sha.update(Path(inspect.getfile(type(self))).read_bytes())
        for name, tensor in built.network.state_dict().items():
            sha.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return sha.hexdigest()[:16]


def sides(size: int | None, own: tuple[int, int], path: str = "encoder.size") -> tuple[int, int]:
    """The size that a field asks for, or the encoder's own."""
    if size is None:
        return own
    if size < 1:
        raise ConfigError(f"{path} = {size}: give a number of pixels, at least 1")
    return size, size


def randomly(make: Callable[[], nn.Module]) -> nn.Module:
    """The same random weights in every process, for who asks for them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()
