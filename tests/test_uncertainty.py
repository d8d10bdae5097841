"""Measures of uncertainty, against their definitions one number at a time."""

import math

import pytest
import torch

from mcdal.uncertainty import (
    entropy,
    least_confidence,
    margin,
    mutual_information,
    predictive_entropy,
    variation_ratio,
)

SINGLE = [entropy, least_confidence, margin]
SEVERAL = [predictive_entropy, mutual_information, variation_ratio]


def h(p):
    """-sum_c p_c log p_c, leaving out what is 0."""
    return -sum(x * math.log(x) for x in p if x > 0)


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def mean(vectors):
    return [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def members(m=4, b=6, c=5, seed=0):
    torch.manual_seed(seed)
    return (2 * torch.randn(m, b, c)).double().softmax(2)


def naive(measure, p):
    """One member or several, as lists: the definition."""
    if measure is entropy:
        return h(p)
    if measure is least_confidence:
        return 1 - max(p)
    if measure is margin:
        first, second = sorted(p, reverse=True)[:2]
        return 1 - (first - second)
    if measure is predictive_entropy:
        return h(mean(p))
    if measure is mutual_information:  # as a divergence: the members' mean distance from their mean
        return sum(kl(one, mean(p)) for one in p) / len(p)
    votes = [one.index(max(one)) for one in p]
    return 1 - max(votes.count(v) for v in votes) / len(votes)


@pytest.mark.parametrize("measure", SINGLE)
def test_single_measures_are_their_definitions(measure):
    logits = members()[0].log() + 3.0  # a shift of all logits is none of the probabilities
    expected = torch.tensor([naive(measure, p) for p in logits.softmax(1).tolist()], dtype=torch.float64)
    torch.testing.assert_close(measure(logits), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("measure", SEVERAL)
def test_measures_of_several_are_their_definitions(measure):
    p = members()
    expected = torch.tensor([naive(measure, p[:, i].tolist()) for i in range(p.shape[1])], dtype=torch.float64)
    torch.testing.assert_close(measure(p), expected, rtol=1e-12, atol=1e-12)


def test_values_by_hand():
    p = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    torch.testing.assert_close(entropy(p.log()), torch.tensor([math.log(4), math.log(2), 0.0]))
    torch.testing.assert_close(least_confidence(p.log()), torch.tensor([0.75, 0.5, 0.0]))
    torch.testing.assert_close(margin(p.log()), torch.tensor([1.0, 1.0, 0.0]))
    # Two members: certain of different classes, certain of the same, unsure alike.
    pair = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]])
    torch.testing.assert_close(predictive_entropy(pair), torch.tensor([math.log(2), 0.0, math.log(2)]))
    torch.testing.assert_close(mutual_information(pair), torch.tensor([math.log(2), 0.0, 0.0]))
    torch.testing.assert_close(variation_ratio(pair), torch.tensor([0.5, 0.0, 0.0]))


@pytest.mark.parametrize("measure", SINGLE)
def test_certainty_is_the_least_and_never_nan(measure):
    """A naive 0 log 0 is NaN, which sorts before or behind everything: the surest images would be picked."""
    certain = torch.tensor([[200.0, 0.0, 0.0], [0.0, -float("inf"), -float("inf")]])
    assert measure(certain).tolist() == [0.0, 0.0]


def test_mutual_information_is_never_negative():
    p = members(m=1).expand(7, -1, -1).float()  # seven members that agree: 0 but for rounding
    assert (mutual_information(p) >= 0).all()
    assert mutual_information(p).max() < 1e-6


@pytest.mark.parametrize("measure", SINGLE + SEVERAL)
def test_a_map_has_a_score_at_every_place(measure):
    p = members(b=2 * 3 * 4)
    maps = p.reshape(4, 2, 3, 4, 5).movedim(4, 2)  # m b c h w
    if measure in SINGLE:
        flat, spread = measure(p[0].log()), measure(maps[0].log())
    else:
        flat, spread = measure(p), measure(maps)
    assert spread.shape == (2, 3, 4)
    torch.testing.assert_close(spread.flatten(), flat)


@pytest.mark.parametrize("measure", SEVERAL)
def test_the_order_of_the_members_does_not_matter(measure):
    p = members()
    torch.testing.assert_close(measure(p[[2, 0, 3, 1]]), measure(p), rtol=1e-12, atol=1e-12)
