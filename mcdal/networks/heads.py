"""Several heads on the same features: one batched product where they are linear, whatever their number."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mcdal.models.base import Model, apply_head
from mcdal.softmax import NARROW

Said = Float[Tensor, "h b c *space"]


def fresh_heads(model: Model, count: int) -> nn.Module:
    """`count` newly initialised heads like the model's, as one module that gives the logits of all: `h b c *space`."""
    heads = [model.fresh_head() for _ in range(count)]
    linear = [head for head in heads if type(head) is nn.Linear]
    return LinearHeads(linear) if len(linear) == count else SeparateHeads(heads)


class LinearHeads(nn.Module):
    """weight: h x c x d. bias: h x 1 x c, or None."""

    def __init__(self, heads: Sequence[nn.Linear]):
        super().__init__()
        biases = [head.bias.detach()[None] for head in heads if head.bias is not None]
        self.weight = nn.Parameter(torch.stack([head.weight.detach() for head in heads]))
        self.bias = nn.Parameter(torch.stack(biases)) if biases else None

    def forward(self, features: Float[Tensor, "b d"]) -> Said:
        """In float32 or wider whatever the autocast around it, as `apply_head`."""
        with torch.autocast(features.device.type, enabled=False):
            z = features.to(self.weight.dtype)
            if not torch.is_grad_enabled():
                return self._in_one_product(z)
            z, products = z.expand(len(self.weight), -1, -1), self.weight.transpose(1, 2)
            return torch.bmm(z, products) if self.bias is None else torch.baddbmm(self.bias, z, products)

    def _in_one_product(self, z: Float[Tensor, "b d"]) -> Said:
        """For measuring: a batched product is one for each head. Narrow logits come in the order that `softmax` wants."""
        heads, classes, _ = self.weight.shape
        rows = self.weight.flatten(0, 1)
        bias = rows.new_zeros(()) if self.bias is None else self.bias.flatten()
        if z.device.type == "cpu" and classes < NARROW:
            return torch.addmm(bias[..., None], rows, z.T).view(heads, classes, len(z)).transpose(1, 2)
        return torch.addmm(bias, z, rows.T).view(len(z), heads, classes).transpose(0, 1)


class SeparateHeads(nn.Module):
    """Heads of any kind, one after the other."""

    def __init__(self, heads: Sequence[nn.Module]):
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, features: Float[Tensor, "b d *space"]) -> Said:
        return torch.stack([apply_head(head, features) for head in self.heads])
