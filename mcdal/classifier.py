"""From the bytes of an image to class probabilities in one module: normalisation, encoder, network, temperature."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from mcdal.encoders.base import Built
from mcdal.inputs import Inputs
from mcdal.models.base import Model
from mcdal.pool.frozen import Spread


class Classifier(nn.Module):
    """Images of 0 to 255, read and cropped as the pool's were, to probabilities, in float32.

    encode: nothing but normalisation, or a frozen encoder with the scaling of its features.
    """

    temperature: Tensor

    def __init__(self, encode: nn.Module, model: Model, temperature: float):
        super().__init__()
        self.encode = encode
        self.model = model
        self.register_buffer("temperature", torch.tensor(temperature))

    @classmethod
    def of(
        cls, model: Model, inputs: Inputs, temperature: float = 1.0, encoder: Built | None = None,
        size: tuple[int, int] = (0, 0),
    ) -> "Classifier":  # fmt: skip
        """encoder: the one whose features the model is a head on. size: height and width of the images that it is given."""
        if encoder is None:
            encode: nn.Module = Normalized(inputs.mean, inputs.std)
        else:
            assert inputs.spread is not None
            encode = Encoded(encoder, size, inputs.spread)
        made = cls(encode, model, temperature).to("cpu", torch.float32)
        return made.to(memory_format=torch.contiguous_format).requires_grad_(False).eval()

    def forward(self, x: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        logits: Tensor = self.model(self.encode(x)).logits
        return (logits / self.temperature).softmax(1)


class Normalized(nn.Module):
    """(x / 255 - mean) / std, with the constants that `augment.normalize` takes, so that it is bit for bit the same."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        spread = torch.tensor(std, dtype=torch.float64)
        shift = -torch.tensor(mean, dtype=torch.float64) / spread
        self.register_buffer("scale", (1 / (255 * spread)).float()[:, None, None])
        self.register_buffer("shift", shift.float()[:, None, None])

    def forward(self, x: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return torch.addcmul(self.shift, x.float(), self.scale)


class Encoded(nn.Module):
    """Resized, normalised, through the frozen network, features scaled as those of the pool: rows of one pixel, (b, e, 1, 1)."""

    rows: Tensor
    columns: Tensor
    mean: Tensor
    std: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, encoder: Built, size: tuple[int, int], spread: Spread):
        super().__init__()
        self.network = encoder.network
        rows, columns = (resizing(old, new, encoder.interpolation) for old, new in zip(size, encoder.size, strict=True))
        self.resizes = tuple(size) != tuple(encoder.size)
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns.mT.contiguous())
        self.register_buffer("mean", torch.tensor(encoder.mean)[:, None, None] * 255)
        self.register_buffer("std", torch.tensor(encoder.std)[:, None, None] * 255)
        mean, scale = torch.tensor(spread.mean), 1 / torch.tensor(spread.deviation)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", -mean * scale)

    def forward(self, x: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b e 1 1"]:
        image = x.float().expand(-1, 3, -1, -1)
        if self.resizes:
            image = self.rows @ (image @ self.columns)
        features: Tensor = self.network((image.clamp(0, 255) - self.mean) / self.std)
        return torch.addcmul(self.shift, features.float(), self.scale)[:, :, None, None]


def resizing(old: int, new: int, mode: str) -> Float[Tensor, "{new} {old}"]:
    """How much each old pixel counts in each new one, along one side, as `interpolate` with antialiasing weighs them.

    As a matrix, so that every format has what it takes: few have torch's antialiased resizing.
    """
    if old == new:
        return torch.eye(old)
    each = torch.eye(old)[None, None]
    return F.interpolate(each, (new, old), mode=mode, align_corners=False, antialias=True)[0, 0]
