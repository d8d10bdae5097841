"""How unsure class probabilities are, of one network or of several. A larger number means less sure, at every place.

Each is computed in at least float32, and on a processor in parts that fit its cache (`mcdal.softmax`).
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from mcdal.softmax import in_parts, narrow, softmax

Logits = Float[Tensor, "b c *space"]
Members = Float[Tensor, "m b c *space"]
Score = Float[Tensor, "b *space"]

NEVER = -750.0
"""A logit that lies this far below the largest has probability 0, also in float64; -inf itself would make NaN of 0 times it."""


def entropy(logits: Logits) -> Score:
    """H(p) = -sum_c p_c log p_c in nats; a class of probability 0 adds 0. At least 0.

    From the logits z, without a logarithm a class: H = log s - sum_c e_c (z_c - max z) / s, with e_c = exp(z_c - max z) and s
    their sum.
    """
    return in_parts(_entropy, logits)


def least_confidence(logits: Logits) -> Score:
    """1 - max_c p_c."""
    return in_parts(lambda z: 1 - softmax(z, 1).amax(1), logits)


def margin(logits: Logits) -> Score:
    """1 - (p_(1) - p_(2)), the two largest class probabilities; 1 is a tie, 0 is certainty."""
    return in_parts(_margin, logits)


def predictive_entropy(p: Members) -> Score:
    """H(mean_m p_m): unsure together, whether each member is or they disagree."""
    return _entr(p.mean(0), 1)


def mutual_information(p: Members) -> Score:
    """BALD, and the Jensen-Shannon divergence of a committee: H(mean_m p_m) - mean_m H(p_m), at least 0."""
    return (predictive_entropy(p) - _entr(p, 2).mean(0)).clamp_min(0)


def entropies(members: Iterable[Float[Tensor, "b c *space"]]) -> tuple[Score, Score]:
    """`predictive_entropy` and `mutual_information` of members that come one after the other, of which only one is held."""
    total, inner, count = torch.zeros(()), torch.zeros(()), 0
    for p in members:
        first = not count
        total, inner, count = p if first else total + p, _entr(p, 1) if first else inner + _entr(p, 1), count + 1
    outer = _entr(total / count, 1)
    return outer, (outer - inner / count).clamp_min(0)


def variation_ratio(p: Members) -> Score:
    """1 - f / m, with f the number of members that vote for the commonest class."""
    votes = torch.nn.functional.one_hot(p.argmax(2), p.shape[2]).sum(0)  # b *space c
    return 1 - votes.amax(-1).to(p.dtype) / len(p)


def _entropy(logits: Logits) -> Score:
    z = logits if logits.element_size() >= 4 else logits.float()
    own = z.T.clone(memory_format=torch.contiguous_format).T if narrow(z, 1) else None
    z = z if own is None else own
    z = torch.sub(z, z.amax(1, keepdim=True), out=own).clamp_min_(NEVER)
    e = z.exp()
    s = e.sum(1)
    return s.log() - e.mul_(z).sum(1) / s


def _margin(logits: Logits) -> Score:
    p = softmax(logits, 1)
    first, second = _two_largest(p)
    return 1 - (first - second)


def _two_largest(p: Logits) -> tuple[Score, Score]:
    """Along dimension 1; overwrites p. `topk` and `sort` are several times slower on a processor."""
    if p.device.type != "cpu":
        first, second = p.topk(2, dim=1).values.unbind(1)
        return first, second
    if p.ndim == 2 and not narrow(p, 1):
        place = torch.from_numpy(p.detach().numpy().argmax(1))[:, None]
        first = p.gather(1, place)[:, 0]
        return first, p.scatter_(1, place, -1.0).amax(1)
    classes = p.unbind(1)
    first, second = torch.maximum(classes[0], classes[1]), torch.minimum(classes[0], classes[1])
    for share in classes[2:]:
        torch.maximum(second, torch.minimum(first, share), out=second)
        torch.maximum(first, share, out=first)
    return first, second


def _entr(p: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """-sum p log p along `dim`, and 0 at 0."""
    return 0 - (p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum(dim)
