"""PowerBALD: BALD's score, and a lot in proportion to its power."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from mcdal.errors import ConfigError
from mcdal.measuring import select
from mcdal.selection import uniform
from mcdal.strategies.bald import BALD
from mcdal.strategies.power_bald import PowerBALD
from mcdal.testing import check_strategy, fake_trained


def test_scores_are_those_of_bald():
    np.testing.assert_array_equal(fake_trained(PowerBALD()).rows().score, fake_trained(BALD()).rows().score)


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_picks_are_the_largest_log_scores_plus_gumbel_noise_over_beta(beta):
    strategy = PowerBALD(beta=beta)
    rows = fake_trained(strategy).rows()
    score = {id: s for id, s, labeled in zip(rows.ids, rows.score.tolist(), rows.labeled, strict=True) if not labeled}
    seen = set()
    for seed in range(10):
        key = {id: math.log(s) - math.log(-math.log(uniform(seed, id))) / beta for id, s in score.items()}
        picks = select(strategy, rows, 7, seed)
        assert picks.ids == tuple(sorted(key, key=lambda id: -key[id])[:7])
        assert picks.score.tolist() == [score[id] for id in picks.ids]
        seen.add(picks.ids)
    assert len(seen) == 10


def test_the_contract_holds_with_the_models_own_layers():
    check_strategy(partial(PowerBALD, passes=5, dropout=None))


def test_defaults_and_errors():
    strategy = PowerBALD()
    assert (strategy.sampling, strategy.beta, strategy.passes, strategy.dropout) == ("power", 1.0, 25, 0.5)
    assert strategy.changes_task_model and not PowerBALD(dropout=None).changes_task_model
    with pytest.raises(ConfigError, match=r"strategy.passes = 1"):
        PowerBALD(passes=1)
    assert torch.tensor(fake_trained(strategy).rows().score).min() >= 0
