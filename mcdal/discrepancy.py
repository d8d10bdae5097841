"""How far apart the class probabilities of several heads are: MCDAL's distance d and its sum over all pairs."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from mcdal.softmax import in_parts, softmax

Distance: TypeAlias = Literal["l1", "l2", "kl"]
Shares: TypeAlias = Float[Tensor, "*many c"]
Logits: TypeAlias = Float[Tensor, "b c *space"]


def distance(p: Shares, q: Shares, kind: Distance) -> Float[Tensor, "*many"]:
    """Eq. 3: d(p, q) = 1/C sum_c |p_c - q_c|, or one of the ablation's distances.

    l2: Euclidean norm / C. kl: mean of KL(p|q) and KL(q|p), in nats.
    """
    classes = p.shape[-1]
    if kind == "l1":
        return (p - q).abs().sum(-1) / classes
    if kind == "l2":
        return (p - q).square().sum(-1).clamp_min(1e-24).sqrt() / classes  # the root's gradient at 0 is infinite
    log_ratio = p.clamp_min(1e-12).log() - q.clamp_min(1e-12).log()
    return ((p - q) * log_ratio).sum(-1) / 2


def discrepancy(members: Sequence[Shares] | Float[Tensor, "m *many c"], kind: Distance) -> Float[Tensor, "*many"]:
    """Eq. 4: D = sum of d over all pairs of the members {p, p_1 ... p_n}; between 0 and 6/C for three of them and l1.

    members: one tensor each, or all in one.
    """
    if kind == "l1" and len(members) == 3 and not (torch.is_grad_enabled() and any(p.requires_grad for p in members)):
        return _spread_of_three(*members)
    if len(members) == 3:
        return torch.stack([distance(p, q, kind) for p, q in combinations(members, 2)]).sum(0)
    together = members if isinstance(members, Tensor) else torch.stack(list(members))
    return torch.stack([distance(p, q, kind).sum(0) for p, q in _pairs(together)]).sum(0)


def _pairs(members: Float[Tensor, "m *many c"]) -> Iterator[tuple[Shares, Shares]]:
    """Each pair once: members that are 1, 2, ... places apart on a circle. A few operations, however many members there are."""
    m = len(members)
    for apart in range(1, (m + 1) // 2):
        yield members, members.roll(apart, 0)
    if m % 2 == 0:
        yield members[: m // 2], members[m // 2 :]


def discrepancy_of(
    logits: Sequence[Logits] | Float[Tensor, "m b c *space"],
    kind: Distance,
    compared: Callable[[Tensor], Tensor] = lambda p: p,
) -> Float[Tensor, "b *places"]:
    """The same of p = softmax(logits), for scores: without gradients, and on a processor in parts that fit its cache.

    compared: what is compared of p, with classes last; of scenes their shares of the image, or p at each pixel.
    """
    return in_parts(lambda *heads: discrepancy([compared(softmax(z, 1)) for z in heads], kind), *logits)


def _spread_of_three(p: Shares, q: Shares, r: Shares) -> Float[Tensor, "*many"]:
    """|p - q| + |p - r| + |q - r| = 2 (max - min), in half the operations; its gradient would differ where two are equal."""
    high = torch.maximum(torch.maximum(p, q), r)
    low = torch.minimum(torch.minimum(p, q), r)
    return (high - low).sum(-1) * (2 / p.shape[-1])
