"""Random views of a batch for contrastive learning: resized crop, flip, and changed colours, on the device it is on."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

GREY = (0.299, 0.587, 0.114)
"""What red, green and blue weigh in the brightness of a pixel (ITU-R BT.601)."""
RATIO = 4 / 3
"""The sides of a crop are at most this far apart."""
JITTERED, GREYED = 0.8, 0.2
"""Shares of the views whose colours are changed, and whose colours are taken away."""

Images = Float[Tensor, "b c h w"]


@dataclass(frozen=True)
class Views:
    """SimCLR's augmentation for small images, of normalised floats; each image of a batch has its own.

    crop: smallest share of the area that is shown, at a ratio of 3/4 to 4/3, scaled back to full size. jitter: brightness moves
    by up to this many standard deviations, contrast and saturation change by up to this share, in 4 of 5 views. Colour images
    become grey in 1 of 5 views. There is no hue and no blur.
    """

    crop: float
    flip: bool
    jitter: float

    def __call__(self, x: Images) -> Images:
        """Same shape, dtype and device. Draws from torch's global random state of the CPU, so it is the same on every device."""
        x = self._cropped(x)
        brightness, contrast, saturation = self._draw_colours(len(x)).to(x.device, x.dtype, non_blocking=True).unbind()
        if x.shape[1] == 3:
            grey = (x * x.new_tensor(GREY)[:, None, None]).sum(1, keepdim=True)
            x = grey + (x - grey) * _each(saturation)
        mean = x.mean((1, 2, 3), keepdim=True)
        return mean + (x - mean) * _each(contrast) + _each(brightness)

    def _cropped(self, x: Images) -> Images:
        moves = self._draw_crops(len(x)).to(x.device, x.dtype, non_blocking=True)
        grid = F.affine_grid(moves, list(x.shape), align_corners=False)
        shown: Tensor = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return shown

    def _draw_crops(self, b: int) -> Float[Tensor, "b 2 3"]:
        """For each view the affine map from its coordinates (-1 to 1, x before y) to those of the image."""
        area = self.crop + (1 - self.crop) * torch.rand(b)
        ratio = torch.exp(
            _either_way(b) * (-area.log()).clamp(max=math.log(RATIO))
        )  # no side is longer than the image's
        width, height = (area * ratio).sqrt(), (area / ratio).sqrt()
        x, y = _either_way(b) * (1 - width), _either_way(b) * (1 - height)
        mirror = torch.where((torch.rand(b) < 0.5) & self.flip, -1.0, 1.0)
        nothing = torch.zeros(b)
        rows = torch.stack([width * mirror, nothing, x]), torch.stack([nothing, height, y])
        return torch.stack(rows).permute(2, 0, 1)

    def _draw_colours(self, b: int) -> Float[Tensor, "3 b"]:
        """For each view the shift of its brightness, and the factors of its contrast and of its saturation."""
        strength = self.jitter * (torch.rand(b) < JITTERED)
        brightness, contrast, saturation = (_either_way(b) * strength for _ in range(3))
        greyed = torch.rand(b) < GREYED
        return torch.stack([brightness, 1 + contrast, (1 + saturation) * ~greyed])


def _either_way(b: int) -> Float[Tensor, " b"]:
    """Uniform from -1 to 1."""
    return 2 * torch.rand(b) - 1


def _each(value: Float[Tensor, " b"]) -> Float[Tensor, "b 1 1 1"]:
    return value[:, None, None, None]
