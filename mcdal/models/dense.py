"""What networks for segmentation share: a 1x1 convolution that classifies each place of a map, and a frozen enlargement."""

from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor, nn

Size = tuple[int, int]


class Upsampling(nn.Module):
    """Bilinear enlargement of a map to the size of the images: fixed, without parameters or buffers.

    stride: pixels to a place of the map. size: height and width of the images that the model is built for.
    published: as DRN's frozen transposed convolution (kernel 2 * stride over zeros, so that the outermost stride / 2 pixels
    fade), cut to the size; otherwise as torch's `interpolate`.

    A map alone does not say how many of its last stride pixels the image had. So a side that fits `size` is taken to be of
    it, and any other to be a whole multiple of the stride, unless the call says more.
    """

    def __init__(self, stride: int, size: Size, published: bool = False):
        super().__init__()
        self.stride, self.size, self.published = stride, size, published

    def forward(self, x: Float[Tensor, "b c h w"], size: Size | None = None) -> Float[Tensor, "b c H W"]:
        return _enlarged(x, size or self.size_of(x), 1 / self.stride if self.published else None)

    def size_of(self, x: Float[Tensor, "b c h w"]) -> Size:
        """Of the images that this map is taken to be of."""
        height, width = (
            side if -(-side // self.stride) == places else places * self.stride
            for places, side in zip(x.shape[2:], self.size, strict=True)
        )
        return height, width


class PixelHead(nn.Module):
    """The last layer of a network for segmentation: `seg`, a 1x1 convolution with bias, then `up`, which learns nothing.

    In float32 or wider whatever the autocast around it. size: of the images, where the caller knows it.
    """

    def __init__(self, seg: nn.Conv2d, up: Upsampling):
        super().__init__()
        self.seg = seg
        self.up = up

    def forward(self, features: Float[Tensor, "b d h w"], size: Size | None = None) -> Float[Tensor, "b c H W"]:
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.up(self.seg(features.to(self.seg.weight.dtype)), size)
        return logits


def enlarge(x: Float[Tensor, "b c h w"], size: Size) -> Float[Tensor, "b c H W"]:
    """Bilinear, as torch's `interpolate` with `align_corners=False`."""
    return _enlarged(x, size, None)


def taps(layers: nn.Module, x: Float[Tensor, "b c h w"], names: Collection[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """What the children of a module make of `x` one after the other, and what the children called so make on the way."""
    heard = {}
    for name, layer in layers.named_children():
        x = layer(x)
        if name in names:
            heard[name] = x
    return x, heard


def widest(x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
    """In float32 or wider, as features leave a model that runs under autocast."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _enlarged(x: Float[Tensor, "b c h w"], size: Size, step: float | None) -> Float[Tensor, "b c H W"]:
    """One matrix product an axis: its backward pass is a product too and the same in every run on CUDA.

    There `interpolate` is not, or is slow; a transposed convolution of many channels, as several heads have, is slower on
    a CPU and its sums are in TF32 on a GPU.
    """
    rows, columns = (_weights(x, n, m, step) for n, m in zip(x.shape[2:], size, strict=True))
    return rows @ (x @ columns.mT)


def _weights(like: Tensor, places: int, pixels: int, step: float | None) -> Float[Tensor, "{pixels} {places}"]:
    """How much each place of a map counts at each pixel: a hat around it, one place wide to either side."""
    exact = torch.promote_types(like.dtype, torch.float32)
    centres = (torch.arange(pixels, device=like.device, dtype=exact) + 0.5) * (step or places / pixels) - 0.5
    if step is None:
        centres = centres.clamp(0, places - 1)  # beyond the outermost places their value goes on
    nearness = 1 - (centres[:, None] - torch.arange(places, device=like.device, dtype=exact)).abs()
    return nearness.clamp_min(0).to(like.dtype)
