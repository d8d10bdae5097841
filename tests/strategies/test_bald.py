"""BALD against its equation."""

import math
from functools import partial

import pytest
import torch

from mcdal.errors import ConfigError
from mcdal.strategies.bald import BALD
from mcdal.testing import check_strategy, fake_trained
from mcdal.values import Batch


def trained(**fields):
    """The strategy beside a trained model, a batch of the pool's, and p[t][i][c] as lists."""
    strategy = BALD(**fields)
    it = fake_trained(strategy)
    torch.manual_seed(1)
    x = torch.randn(6, 3, 6, 6).double()
    with torch.no_grad():
        batch = Batch(tuple("abcdef"), x, output=it.model(x))
        return strategy, batch, strategy._draws.probabilities(batch)


def h(p):
    return -sum(x * math.log(x) for x in p)


@pytest.mark.parametrize("dropout", [0.5, None])
def test_score_is_the_mutual_information_of_label_and_weights(dropout):
    strategy, batch, p = trained(passes=7, dropout=dropout)
    with torch.no_grad():
        score = strategy.measure(batch).score
    for i in range(6):
        mean = [sum(p[t, i, c].item() for t in range(7)) / 7 for c in range(3)]
        expected = h(mean) - sum(h(p[t, i].tolist()) for t in range(7)) / 7
        assert score[i].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert score[i] > 0


def test_the_contract_holds_with_the_models_own_layers():
    check_strategy(partial(BALD, passes=5, dropout=None))


def test_defaults_and_errors():
    assert (BALD().passes, BALD().dropout, BALD().sampling) == (25, 0.5, "top")
    assert BALD().changes_task_model and not BALD(dropout=None).changes_task_model
    with pytest.raises(ConfigError, match=r"strategy.passes = 1"):
        BALD(passes=1)
    with pytest.raises(ConfigError, match=r"strategy.beta"):
        BALD(beta=-1.0)
