"""MCDAL's auxiliary heads on features that are given: several independent sets of them, trained as one product."""

from itertools import combinations
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mcdal.discrepancy import Distance, discrepancy

Shares: TypeAlias = Float[Tensor, "s h c b"]


class PosthocHeads(nn.Module):
    """`sets` x `heads` linear heads on d features. A set is one MCDAL: its heads and the task's own p are compared pairwise.

    Sets share nothing but the batches: each has its own initial weights, drawn from torch's global random state as those of
    `nn.Linear`, and under SGD the sum of their losses trains each as its own loss would. Samples lie last: along many of them a
    processor is quick, along few classes it is not.

    The gradients are written out, since there are few of them and a fit takes thousands of small steps: with p = softmax(l)
    those with respect to the logits l are

        CE       p - [c = y]
        d        p (g - p . g)     where g_c = dd / dp_c; for l1, 1/C times the sum of sign(p_c - q_c) over the others q

    Products are in the precision of z, where that is less than that of the weights; everything else is in theirs.
    """

    def __init__(self, d: int, classes: int, sets: int, heads: int, distance: Distance):
        super().__init__()
        self.linear = nn.Linear(d, sets * heads * classes)
        self.sets = sets
        self._shape = sets, heads, classes
        self._distance = distance

    def forward(self, z: Float[Tensor, "b d"]) -> Shares:
        """Class probabilities."""
        weight, bias = self.linear.weight, self.linear.bias[:, None]
        same = z.dtype is weight.dtype
        logits = torch.addmm(bias, weight, z.T) if same else (weight.to(z.dtype) @ z.T).to(weight.dtype).add_(bias)
        return logits.view(*self._shape, len(z)).softmax(2)

    def discrepancy(self, z: Float[Tensor, "b d"], p: Float[Tensor, "b c"]) -> Float[Tensor, "b s"]:
        """Eq. 4 of each set: D(x) = sum of d over all pairs of {p, p_1 ... p_n}."""
        own = self(z).transpose(2, 3)  # s h b c
        members = [p.expand(self._shape[0], -1, -1), *own.unbind(1)]
        return discrepancy(members, self._distance).T

    def cross_entropy_slope(self, z: Float[Tensor, "b d"], y: Int[Tensor, " b"]) -> Float[Tensor, "shc b"]:
        """Of sum_k CE(p_k, y), the sum over the batch, with respect to the logits."""
        slope: Tensor = self(z)
        right = y == torch.arange(slope.shape[2], device=y.device)[:, None]
        return slope.sub_(right.to(slope.dtype)).flatten(0, 2)

    def discrepancy_slope(
        self, z: Float[Tensor, "b d"], p: Float[Tensor, "b c"]
    ) -> tuple[Float[Tensor, "shc b"], Float[Tensor, ""]]:
        """Of C times L_dis, the sum over the batch, with respect to the logits; and the sum of D over batch and sets."""
        own = self(z)
        slope, rest = _by_share_l1(own, p.T) if self._distance == "l1" else _by_share(own, p, self._distance)
        inner = slope.mul_(own).sum(2, keepdim=True)
        total = (inner.sum() + rest) / p.shape[1]
        return slope.sub_(own.mul_(inner)).flatten(0, 2), total

    def set_gradient(self, *parts: tuple[float, Float[Tensor, "shc _"], Float[Tensor, "_ d"]]) -> None:
        """That of a loss, each part a factor, the slope of a sum over some rows with respect to their logits, and these rows."""
        weight, bias = torch.zeros_like(self.linear.weight), torch.zeros_like(self.linear.bias)
        for factor, slope, z in parts:
            weight.add_(slope.to(z.dtype) @ z, alpha=factor)
            bias.add_(slope.sum(1), alpha=factor)
        self.linear.weight.grad, self.linear.bias.grad = weight, bias


def _by_share_l1(own: Shares, p: Float[Tensor, "c b"]) -> tuple[Shares, Float[Tensor, ""]]:
    """C dD/dp_k of each head, and what p_k . C dD/dp_k, summed over heads and rows, lacks of the sum of C D: the task's own term.

    For D is the sum of p_k . dD/dp_k over all members: |a - b| = (a - b) sign(a - b).
    """
    slope = (own - p).sign_()
    rest = -slope.sum((0, 1)).mul_(p).sum()
    for i, k in combinations(range(own.shape[1]), 2):
        sign = (own[:, i] - own[:, k]).sign_()
        slope[:, i].add_(sign)
        slope[:, k].sub_(sign)
    return slope, rest


def _by_share(own: Shares, p: Float[Tensor, "b c"], distance: Distance) -> tuple[Shares, Float[Tensor, ""]]:
    """The same for any distance."""
    with torch.enable_grad():
        leaf = own.detach().requires_grad_()
        members = [p.expand(len(own), -1, -1), *leaf.transpose(2, 3).unbind(1)]
        total = p.shape[1] * discrepancy(members, distance).sum()
    (slope,) = torch.autograd.grad(total, leaf)
    return slope, total.detach() - (slope * own).sum()
