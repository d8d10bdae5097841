"""QBC against the Jensen-Shannon divergence of its members."""

import math

import pytest
import torch

from mcdal.errors import ConfigError, SelectionError
from mcdal.strategies.qbc import QBC
from mcdal.testing import fake_trained
from mcdal.values import Batch, Output


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_score_is_the_members_mean_divergence_from_their_mean():
    strategy = QBC()
    it = fake_trained(strategy)
    torch.manual_seed(1)
    x = torch.randn(6, 3, 6, 6).double()
    with torch.no_grad():
        batch = Batch(tuple("abcdef"), x, output=it.model(x))
        score = strategy.measure(batch).score
        members = [batch.output.logits, *(member(x).logits for member in strategy._committee.others)]
    assert len(members) == 3
    p = torch.stack(members).softmax(2)
    for i in range(6):
        each = p[:, i].tolist()
        mean = [sum(column) / 3 for column in zip(*each, strict=True)]
        assert score[i].item() == pytest.approx(sum(kl(one, mean) for one in each) / 3, rel=1e-9)
        assert score[i] > 0


def test_members_begin_anew_in_every_round():
    """Built once, members would carry what they learned from round to round (acl21)."""
    strategy = QBC()
    fake_trained(strategy)
    first = strategy._committee
    fake_trained(strategy)
    assert strategy._committee is not first
    for one, two in zip(first.others.parameters(), strategy._committee.others.parameters(), strict=True):
        assert torch.equal(one, two)  # the same seed: the same start, and nothing of the first training


def test_errors_say_what_to_give():
    with pytest.raises(ConfigError, match=r"strategy.members = 1"):
        QBC(members=1)
    told = Batch(("a",), torch.zeros(1, 3, 6, 6), output=Output(torch.zeros(1, 3), torch.zeros(1, 5)))
    with pytest.raises(SelectionError, match="QBC has no committee yet"):
        QBC().measure(told)
    assert QBC().state() == {} and QBC().metrics() == {}
