"""MC-dropout against its equation, and what it does to the task model."""

import math
from functools import partial

import pytest
import torch

from mcdal.errors import ConfigError, SelectionError
from mcdal.strategies.mc_dropout import MCDropout
from mcdal.strategies.random import Random
from mcdal.testing import assert_same, check_strategy, fake_trained
from mcdal.values import Batch


def trained(**fields):
    """The strategy beside a trained model, a batch of the pool's, and p[t][i][c] as lists."""
    strategy = MCDropout(**fields)
    it = fake_trained(strategy)
    torch.manual_seed(1)
    x = torch.randn(6, 3, 6, 6).double()
    with torch.no_grad():
        batch = Batch(tuple("abcdef"), x, output=it.model(x))
        return strategy, batch, strategy._draws.probabilities(batch)


@pytest.mark.parametrize("dropout", [0.5, None])
def test_score_is_the_entropy_of_the_mean_probabilities(dropout):
    strategy, batch, p = trained(passes=7, dropout=dropout)
    assert p.shape == (7, 6, 3)
    with torch.no_grad():
        score = strategy.measure(batch).score
    for i in range(6):
        mean = [sum(p[t, i, c].item() for t in range(7)) / 7 for c in range(3)]
        assert score[i].item() == pytest.approx(-sum(m * math.log(m) for m in mean), rel=1e-9)


def test_the_mean_is_of_probabilities_not_of_logits():
    """BADGE's repository averages logits: a draw that is very sure then outvotes all others."""
    strategy, batch, p = trained(passes=7)
    of_logits = torch.special.entr(p.log().mean(0).softmax(1)).sum(1)
    with torch.no_grad():
        assert (strategy.measure(batch).score - of_logits).abs().max() > 1e-3


@pytest.mark.parametrize("dropout", [0.5, None])
def test_the_task_model_is_changed_as_declared(dropout):
    strategy = MCDropout(dropout=dropout)
    assert strategy.changes_task_model is (dropout is not None)
    mine, random = fake_trained(strategy).model.state_dict(), fake_trained(Random()).model.state_dict()
    if dropout is None:
        assert_same(mine, random, "own layers need no other training")
    else:
        assert not torch.equal(mine["head.weight"], random["head.weight"])


def test_the_contract_holds_with_the_models_own_layers():
    check_strategy(partial(MCDropout, passes=5, dropout=None))


def test_defaults_and_errors():
    assert (MCDropout().passes, MCDropout().dropout) == (25, 0.5)
    with pytest.raises(ConfigError, match=r"strategy.passes = 0"):
        MCDropout(passes=0)
    with pytest.raises(ConfigError, match=r"strategy.dropout = 1"):
        MCDropout(dropout=1.0)
    _, batch, _ = trained(passes=2)
    with pytest.raises(SelectionError, match="train with this strategy first"):
        MCDropout().measure(batch)
