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

    The gradients are written out, since there are few of them and a fit takes some ten thousand small steps: with p = softmax(l)
    those with respect to the logits l are

        CE       p - [c = y]
        d        p (g - p . g)     where g_c = dd / dp_c; for l1, 1/C times the sum of sign(p_c - q_c) over the others q
    """

    def __init__(self, d: int, classes: int, sets: int, heads: int, distance: Distance):
        super().__init__()
        self.linear = nn.Linear(d, sets * heads * classes)
        self.sets = sets
        self._shape = sets, heads, classes
        self._distance = distance

    def forward(self, z: Float[Tensor, "b d"]) -> Shares:
        """Class probabilities."""
        logits = torch.addmm(self.linear.bias[:, None], self.linear.weight, z.T)
        return logits.view(*self._shape, len(z)).softmax(2)

    def discrepancy(self, z: Float[Tensor, "b d"], p: Float[Tensor, "b c"]) -> Float[Tensor, "b s"]:
        """Eq. 4 of each set: D(x) = sum of d over all pairs of {p, p_1 ... p_n}."""
        own = self(z).transpose(2, 3)  # s h b c
        members = [p.expand(self._shape[0], -1, -1), *own.unbind(1)]
        return discrepancy(members, self._distance).T

    def cross_entropy_slope(self, z: Float[Tensor, "b d"], y: Int[Tensor, " b"]) -> Float[Tensor, "shc b"]:
        """Of sum_k CE(p_k, y), the mean over the batch, with respect to the logits."""
        slope: Tensor = self(z)
        right = y == torch.arange(slope.shape[2], device=y.device)[:, None]
        return slope.sub_(right.to(slope.dtype)).flatten(0, 2).div_(len(y))

    def discrepancy_slope(
        self, z: Float[Tensor, "b d"], p: Float[Tensor, "b c"]
    ) -> tuple[Float[Tensor, "shc b"], Float[Tensor, ""]]:
        """Of L_dis, the mean over the batch, with respect to the logits; and the sum of D over batch and sets."""
        own = self(z)
        by_share, total = _by_share_l1(own, p.T) if self._distance == "l1" else _by_share(own, p, self._distance)
        slope = by_share.mul_(own)
        slope.sub_(own.mul_(slope.sum(2, keepdim=True)))
        return slope.flatten(0, 2).div_(len(z)), total

    def set_gradient(self, *parts: tuple[Float[Tensor, "shc _"], Float[Tensor, "_ d"]]) -> None:
        """That of a loss, from its slopes with respect to the logits of some rows and these rows: the sum of all parts."""
        (slope, z), *more = parts
        weight, bias = slope @ z, slope.sum(1)
        for slope, z in more:
            weight.addmm_(slope, z)
            bias += slope.sum(1)
        self.linear.weight.grad, self.linear.bias.grad = weight, bias


def _by_share_l1(own: Shares, p: Float[Tensor, "c b"]) -> tuple[Shares, Float[Tensor, ""]]:
    """dD/dp_k of each head, and the sum of D, which is that of p_k . dD/dp_k over all members: |a - b| = (a - b) sign(a - b)."""
    slope = (own - p).sign_()
    of_p = slope.sum((0, 1)).mul_(p).sum()
    for i, k in combinations(range(own.shape[1]), 2):
        sign = (own[:, i] - own[:, k]).sign_()
        slope[:, i].add_(sign)
        slope[:, k].sub_(sign)
    total = torch.dot(slope.flatten(), own.flatten()) - of_p
    return slope.div_(len(p)), total / len(p)


def _by_share(own: Shares, p: Float[Tensor, "b c"], distance: Distance) -> tuple[Shares, Float[Tensor, ""]]:
    """The same for any distance."""
    with torch.enable_grad():
        leaf = own.detach().requires_grad_()
        members = [p.expand(len(own), -1, -1), *leaf.transpose(2, 3).unbind(1)]
        total = discrepancy(members, distance).sum()
    (slope,) = torch.autograd.grad(total, leaf)
    return slope, total.detach()
