"""How unsure class probabilities are, of one network or of several. A larger number means less sure, at every place."""

import torch
from jaxtyping import Float
from torch import Tensor

Logits = Float[Tensor, "b c *space"]
Members = Float[Tensor, "m b c *space"]
Score = Float[Tensor, "b *space"]


def entropy(logits: Logits) -> Score:
    """H(p) = -sum_c p_c log p_c in nats; a class of probability 0 adds 0."""
    return _entr(logits.softmax(1)).sum(1)


def least_confidence(logits: Logits) -> Score:
    """1 - max_c p_c."""
    return 1 - logits.softmax(1).amax(1)


def margin(logits: Logits) -> Score:
    """1 - (p_(1) - p_(2)), the two largest class probabilities; 1 is a tie, 0 is certainty."""
    first, second = logits.softmax(1).topk(2, dim=1).values.unbind(1)
    return 1 - (first - second)


def predictive_entropy(p: Members) -> Score:
    """H(mean_m p_m): unsure together, whether each member is or they disagree."""
    return _entr(p.mean(0)).sum(1)


def mutual_information(p: Members) -> Score:
    """BALD, and the Jensen-Shannon divergence of a committee: H(mean_m p_m) - mean_m H(p_m), at least 0."""
    return (predictive_entropy(p) - _entr(p).sum(2).mean(0)).clamp_min(0)


def variation_ratio(p: Members) -> Score:
    """1 - f / m, with f the number of members that vote for the commonest class."""
    votes = torch.nn.functional.one_hot(p.argmax(2), p.shape[2]).sum(0)  # b *space c
    return 1 - votes.amax(-1).to(p.dtype) / len(p)


def _entr(p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """-p log p, and 0 at 0."""
    values: Tensor = torch.special.entr(p)
    return values
