"""Several heads on the same features: one product or one convolution for all of them where their kind is known."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mcdal.models.base import Model, apply_head
from mcdal.models.dense import PixelHead
from mcdal.softmax import NARROW

Said = Float[Tensor, "h b c *space"]


def fresh_heads(model: Model, count: int) -> nn.Module:
    """`count` newly initialised heads like the model's, as one module that gives the logits of all: `h b c *space`."""
    heads = [model.fresh_head() for _ in range(count)]
    linear = [head for head in heads if type(head) is nn.Linear]
    pixel = [head for head in heads if type(head) is PixelHead]
    if len(linear) == count:
        return LinearHeads(linear)
    return PixelHeads(pixel) if len(pixel) == count else SeparateHeads(heads)


class LinearHeads(nn.Module):
    """weight: h x c x d. bias: h x 1 x c, or None."""

    def __init__(self, heads: Sequence[nn.Linear]):
        super().__init__()
        biases = [head.bias.detach()[None] for head in heads if head.bias is not None]
        self.weight = nn.Parameter(torch.stack([head.weight.detach() for head in heads]))
        self.bias = nn.Parameter(torch.stack(biases)) if biases else None

    def forward(self, features: Float[Tensor, "b d"], size: Sequence[int] = ()) -> Said:
        """In float32 or wider whatever the autocast around it, as `apply_head`."""
        with torch.autocast(features.device.type, enabled=False):
            z = features.to(self.weight.dtype)
            if not torch.is_grad_enabled():
                return in_one_product(self.weight, self.bias, z)
            z, products = z.expand(len(self.weight), -1, -1), self.weight.transpose(1, 2)
            return torch.bmm(z, products) if self.bias is None else torch.baddbmm(self.bias, z, products)


def in_one_product(
    weight: Float[Tensor, "h c d"], bias: Float[Tensor, "h _ c"] | None, z: Float[Tensor, "b d"]
) -> Float[Tensor, "h b c"]:
    """For measuring: a batched product is one for each head. Narrow logits come in the order that `softmax` wants."""
    heads, classes, _ = weight.shape
    rows = weight.flatten(0, 1)
    offset = rows.new_zeros(()) if bias is None else bias.flatten()
    if z.device.type == "cpu" and classes < NARROW:
        return torch.addmm(offset[..., None], rows, z.T).view(heads, classes, len(z)).transpose(1, 2)
    return torch.addmm(offset, z, rows.T).view(len(z), heads, classes).transpose(0, 1)


class PixelHeads(nn.Module):
    """One convolution of all heads' channels, and one enlargement. weight: h x c x d x 1 x 1. bias: h x c, or None."""

    def __init__(self, heads: Sequence[PixelHead]):
        super().__init__()
        biases = [head.seg.bias.detach() for head in heads if head.seg.bias is not None]
        self.weight = nn.Parameter(torch.stack([head.seg.weight.detach() for head in heads]))
        self.bias = nn.Parameter(torch.stack(biases)) if biases else None
        self.up = heads[0].up

    def forward(self, features: Float[Tensor, "b d rows columns"], size: Sequence[int] = ()) -> Said:
        """In float32 or wider whatever the autocast around it, as `PixelHead`. size: of the images, if the caller knows it."""
        with torch.autocast(features.device.type, enabled=False):
            z = features.to(self.weight.dtype)
            maps = F.conv2d(z, self.weight.flatten(0, 1), None if self.bias is None else self.bias.flatten())
            b, (heads, c) = len(maps), self.weight.shape[:2]
            by_head = maps.reshape(b, heads, c, *maps.shape[2:]).transpose(0, 1)  # turned before it is large
            large: Tensor = self.up(by_head.flatten(0, 1), tuple(size) or None)
            return large.view(heads, b, *large.shape[1:])


class SeparateHeads(nn.Module):
    """Heads of any kind, one after the other."""

    def __init__(self, heads: Sequence[nn.Module]):
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, features: Float[Tensor, "b d *places"], size: Sequence[int] = ()) -> Said:
        return torch.stack([apply_head(head, features, size) for head in self.heads])
