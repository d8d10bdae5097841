"""Random scale, crop and flip of whole scenes and their masks together, on the device they are on."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from mcdal.augment import Augmentation
from mcdal.errors import ConfigError
from mcdal.values import VOID


@dataclass(frozen=True)
class SceneAugment(Augmentation):
    """Scale, then crop at a random place, then mirror; each image of a batch has its own.

    Images bilinearly, masks by the nearest pixel. What comes from outside is black in an image and void in its mask.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    """Smallest and largest factor; (1, 1) scales nothing."""
    crop: tuple[int, int] | None = None
    """Height and width of the crop, in pixels; null: those of the image."""
    flip: bool = True
    """Mirror left and right with probability 1/2."""

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high:
            raise ConfigError(f"augment: scale is {self.scale}; give the smallest and the largest factor, above 0")
        if self.crop is not None and min(self.crop) < 1:
            raise ConfigError(f"augment: crop is {self.crop}; give height and width in pixels")

    @property
    def changes(self) -> bool:
        return self.flip or self.scale != (1, 1) or self.crop is not None

    def draw(self, x: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b 4"]:
        """For each image: factor, where the crop lies (0 top or left, 1 bottom or right), whether it is mirrored (0, 1)."""
        low, high = self.scale
        drawn = torch.rand(len(x), 4)
        drawn[:, 0] = low + (high - low) * drawn[:, 0]
        drawn[:, 3] = (drawn[:, 3] < 0.5) & self.flip
        return drawn

    def moved(self, x: Shaped[Tensor, "b c h w"], drawn: Float[Tensor, "b 4"]) -> Shaped[Tensor, "b c i j"]:
        if x.is_floating_point():
            return F.grid_sample(x, self._grid(x, drawn), mode="bilinear", align_corners=False)
        sampled = F.grid_sample(x.float(), self._grid(x, drawn), mode="bilinear", align_corners=False)
        return sampled.round_().to(x.dtype)

    def moved_masks(self, y: UInt8[Tensor, "b h w"], drawn: Float[Tensor, "b 4"]) -> UInt8[Tensor, "b i j"]:
        void = (y[:, None] ^ VOID).float()  # what lies outside is 0, and so void afterwards
        nearest = F.grid_sample(void, self._grid(y[:, None], drawn), mode="nearest", align_corners=False)
        return nearest[:, 0].to(torch.uint8) ^ VOID

    def _grid(self, x: Shaped[Tensor, "b c h w"], drawn: Float[Tensor, "b 4"]) -> Float[Tensor, "b i j 2"]:
        """Where each pixel of the crop lies in the image, from -1 to 1.

        Pixel i of the crop lies at (i + 1/2 + o) / s, with s the factor and o the crop's offset in the scaled image:
        between 0 and what is left, or, where the crop is larger, between that and 0.
        """
        h, w = x.shape[2:]
        height, width = self.crop or (h, w)
        factor, down, right, flip = drawn.to(x.device, torch.float32, non_blocking=True).unbind(1)
        rows = _places(height, h, factor, down)
        columns = _places(width, w, factor, right)
        columns = torch.where(flip[:, None] > 0, columns.flip(1), columns)
        shape = len(x), height, width
        return torch.stack([columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)], dim=3)


def _places(length: int, side: int, factor: Float[Tensor, " b"], share: Float[Tensor, " b"]) -> Float[Tensor, "b i"]:
    middle = torch.arange(length, device=factor.device, dtype=torch.float32) + 0.5
    offset = share * (factor * side - length)
    return (middle[None] + offset[:, None]) / (factor[:, None] * side) * 2 - 1
