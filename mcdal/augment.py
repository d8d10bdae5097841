"""Random crop, flip and rotation of a whole batch at once on the device it is on, and normalisation."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from mcdal.errors import ConfigError
from mcdal.values import VOID

FRACTION_BITS = 16  # source coordinates are integers in 1/65536 of a pixel, as in Pillow: equal on every device


class Augmentation(ABC):
    """Random changes of training images: `draw` says which, `moved` makes them. A mask is moved with its image."""

    flip: bool

    @property
    @abstractmethod
    def changes(self) -> bool:
        """Whether any image comes back otherwise than it went in."""

    @abstractmethod
    def draw(self, x: Shaped[Tensor, "b c h w"]) -> Shaped[Tensor, "b _"]:
        """What to do with each image of a batch, on the CPU. Draws from torch's global random state."""

    @abstractmethod
    def moved(self, x: Shaped[Tensor, "b c h w"], drawn: Shaped[Tensor, "b _"]) -> Shaped[Tensor, "b c i j"]:
        """As `draw` has drawn. Same dtype and device."""

    @abstractmethod
    def moved_masks(self, y: UInt8[Tensor, "b h w"], drawn: Shaped[Tensor, "b _"]) -> UInt8[Tensor, "b i j"]:
        """The masks of the same images; what comes from outside is void (255)."""

    def __call__(self, x: Shaped[Tensor, "b c h w"]) -> Shaped[Tensor, "b c i j"]:
        """Draws, and makes what was drawn."""
        return self.moved(x, self.draw(x))


@dataclass(frozen=True)
class Augment(Augmentation):
    """Random crop, then horizontal flip, then rotation; each image of a batch has its own.

    The same pixels as torchvision's RandomCrop(padding), RandomHorizontalFlip, RandomRotation (nearest) give a Pillow
    image, in one gather. What comes from outside the image is 0: black in uint8, so augment before `normalize`.
    """

    crop_padding: int = 4
    """Crop at a random offset of up to this many pixels each way; 0 crops nothing."""

    flip: bool = True
    """Mirror left and right with probability 1/2."""

    rotation: float = 15.0
    """Rotate by a random angle of up to this many degrees each way; 0 rotates nothing."""

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise ConfigError(f"augment: crop_padding is {self.crop_padding}; it must be 0 pixels or more")
        if not 0 <= self.rotation <= 180:
            raise ConfigError(f"augment: rotation is {self.rotation}; it must be 0 to 180 degrees")

    @property
    def changes(self) -> bool:
        """Whether any image comes back otherwise than it went in."""
        return self.flip or self.crop_padding > 0 or self.rotation > 0

    def moved(self, x: Shaped[Tensor, "b c h w"], drawn: Int[Tensor, "b 9"]) -> Shaped[Tensor, "b c h w"]:
        """Same shape, dtype, device and memory layout."""
        return self._moved(x, drawn, 0)

    def moved_masks(self, y: UInt8[Tensor, "b h w"], drawn: Int[Tensor, "b 9"]) -> UInt8[Tensor, "b h w"]:
        return self._moved(y[:, None], drawn, VOID)[:, 0]

    def _moved(
        self, x: Shaped[Tensor, "b c h w"], drawn: Int[Tensor, "b 9"], outside: int
    ) -> Shaped[Tensor, "b c h w"]:
        b, c, h, w = x.shape
        if (h, w) == (1, 1):  # a row of features: there is nothing to move
            return x
        pad = max(self.crop_padding, 1)  # at least one pixel of black: where everything outside points to
        canvas = x.new_full((b, h + 2 * pad, w + 2 * pad, c), outside)
        canvas[:, pad:-pad, pad:-pad] = x.permute(0, 2, 3, 1)
        source = _source_positions(drawn.to(x.device, non_blocking=True), h, w, pad)
        moved = canvas.view(-1, c).index_select(0, source.view(-1)).view(b, h, w, c).permute(0, 3, 1, 2)
        return moved if x.is_contiguous(memory_format=torch.channels_last) else moved.contiguous()

    def draw(self, x: Shaped[Tensor, "b c h w"]) -> Int[Tensor, "b 9"]:
        """For each image of a batch: crop offset down and right (pixels), flip (0, 1), and the six numbers of `_rotations`.

        All are drawn whatever is switched off, so that switching one off leaves the others as they were; and on the
        CPU, so that a run sees the same images on every device.
        """
        b, _, h, w = x.shape
        if (h, w) == (1, 1):
            return torch.zeros(b, 9, dtype=torch.int32)
        offsets = torch.randint(-self.crop_padding, self.crop_padding + 1, (b, 2))
        flips = (torch.rand(b, 1) < 0.5) & self.flip
        degrees = (2 * torch.rand(b, dtype=torch.float64) - 1) * self.rotation
        return torch.cat([offsets, flips, _rotations(degrees, h, w)], dim=1).to(torch.int32)


def _rotations(degrees: Float[Tensor, " b"], h: int, w: int) -> Int[Tensor, "b 6"]:
    """Of each output pixel (x, y) the source is (a x + b y + c, d x + e y + f); here a to f in fixed point.

    Counter-clockwise about the centre of the image. c and f include the half pixel to the pixel's middle.
    """
    cos, sin = torch.cos(degrees * (math.pi / 180)), torch.sin(degrees * (math.pi / 180))
    right, down = (1 - w) / 2, (1 - h) / 2  # from the centre to the middle of pixel (0, 0)
    c = cos * right - sin * down + w / 2
    f = sin * right + cos * down + h / 2
    return torch.floor(torch.stack([cos, -sin, c, sin, cos, f], dim=1) * 2**FRACTION_BITS + 0.5).long()


def _source_positions(parameters: Int[Tensor, "b 9"], h: int, w: int, pad: int) -> Int[Tensor, "b h w"]:
    """Where each output pixel lies in the batch of padded images, all pixels counted in one row; 0 is black."""
    dy, dx, flip, *affine = (column[:, None, None] for column in parameters.unbind(1))
    ys = torch.arange(h, device=parameters.device, dtype=torch.int32)[None, :, None]
    xs = torch.arange(w, device=parameters.device, dtype=torch.int32)[None, None, :]
    column = (affine[0] * xs + affine[2] + affine[1] * ys).bitwise_right_shift_(FRACTION_BITS)
    row = (affine[3] * xs + (affine[4] * ys + affine[5])).bitwise_right_shift_(FRACTION_BITS)
    # -1 (all bits) where the source lies in the cropped window, 0 elsewhere: negative only if one of the four is
    inside = (w - 1 - column).bitwise_or_(column).bitwise_or_(row).bitwise_or_(h - 1 - row)
    inside = inside.bitwise_right_shift_(31).bitwise_not_()
    height, width = h + 2 * pad, w + 2 * pad
    # flipped, column becomes w - 1 - column; everything that does not depend on the pixel is one number an image
    image = torch.arange(len(parameters), device=parameters.device, dtype=torch.int32)[:, None, None]
    start = (image * height + dy + pad) * width + dx + pad + flip * (w - 1)
    return (row * width).add_(start).addcmul_(column, 1 - 2 * flip).bitwise_and_(inside)


def normalize(x: Shaped[Tensor, "b c h w"], mean: Sequence[float], std: Sequence[float]) -> Float[Tensor, "b c h w"]:
    """(x / 255 - mean) / std in float32 with one mean and std a channel; memory layout is kept.

    A float tensor is taken as already normalised and comes back as it is.
    """
    if x.is_floating_point():
        return x
    b, c, h, w = x.shape
    if not c == len(mean) == len(std):
        raise ConfigError(f"images of {c} channels with {len(mean)} means and {len(std)} standard deviations")
    scale, shift = _constants(tuple(mean), tuple(std), x.device)
    # Over the floats themselves: touching new memory costs a CPU ten times what the arithmetic does.
    if not x.is_contiguous(memory_format=torch.channels_last):
        floats = x.float()
        return torch.addcmul(shift[:, None, None], floats, scale[:, None, None], out=floats)
    floats = x.permute(0, 2, 3, 1).reshape(-1, w * c).float()  # long lines in memory order: ten times as fast on a CPU
    floats = torch.addcmul(shift.repeat(w), floats, scale.repeat(w), out=floats)
    return floats.view(b, h, w, c).permute(0, 3, 1, 2)


@lru_cache(maxsize=16)
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """x * scale + shift normalises; kept so that no batch waits for a copy to the device."""
    spread = torch.tensor(std, dtype=torch.float64)
    shift = -torch.tensor(mean, dtype=torch.float64) / spread
    return (1 / (255 * spread)).float().to(device), shift.float().to(device)
