"""Ensemble against its equations, and the lot that breaks the ties of variation ratios."""

import math
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import select
from mcdal.strategies.ensemble import Ensemble
from mcdal.testing import check_strategy, fake_trained
from mcdal.values import Batch, Output, Rows

ROWS = Rows(
    tuple(f"x{i:02d}" for i in range(60)), np.zeros(60, dtype=bool), np.repeat([0.4, 0.2, 0.0], 20).astype(np.float32)
)


def h(p):
    return -sum(x * math.log(x) for x in p)


def naive(score, p):
    """Of one sample, from its members' probabilities as lists."""
    mean = [sum(column) / len(p) for column in zip(*p, strict=True)]
    if score == "variation_ratio":
        votes = Counter(max(range(len(one)), key=one.__getitem__) for one in p)
        return 1 - max(votes.values()) / len(p)
    return h(mean) - (sum(map(h, p)) / len(p) if score == "bald" else 0)


@pytest.mark.parametrize("score", ["predictive_entropy", "bald", "variation_ratio"])
def test_score_is_the_equation(score):
    strategy = Ensemble(score=score)
    it = fake_trained(strategy)
    torch.manual_seed(1)
    x = torch.randn(6, 3, 6, 6).double()
    with torch.no_grad():
        batch = Batch(tuple("abcdef"), x, output=it.model(x))
        measured = strategy.measure(batch).score
        p = strategy._committee.probabilities(batch)
    assert p.shape == (5, 6, 3)  # the task model and four others
    torch.testing.assert_close(p[0], batch.output.logits.softmax(1))
    for i in range(6):
        assert measured[i].item() == pytest.approx(naive(score, p[:, i].tolist()), rel=1e-9, abs=1e-12)


def test_members_are_trained_and_differ():
    strategy = Ensemble(members=3)
    it = fake_trained(strategy)
    heads = [it.model.head.weight, *(member.head.weight for member in strategy._committee.others)]
    assert all(not torch.equal(a, b) for i, a in enumerate(heads) for b in heads[:i])
    assert set(strategy.state()) == {"members", "optimizer"}
    assert 0 < strategy.metrics()["train/members_loss"] < 3
    assert strategy._committee.others[0].encoder[1].num_batches_tracked == 8  # a batch a step, of its own


def test_equal_variation_ratios_are_picked_at_random_and_reported_as_they_are():
    strategy = Ensemble(score="variation_ratio")
    counts = Counter(id for seed in range(200) for id in select(strategy, ROWS, 5, seed).ids)
    assert set(counts) == set(ROWS.ids[:20])  # never one of a smaller ratio
    assert max(abs(n - 50) for n in counts.values()) < 4 * (200 * 0.25 * 0.75) ** 0.5
    assert select(strategy, ROWS, 45, seed=3).score.tolist() == ROWS.score[:45].astype(float).tolist()
    one, again = select(strategy, ROWS, 5, 1), select(strategy, ROWS.take(np.arange(60)[::-1]), 5, 1)
    assert one.ids == again.ids


@pytest.mark.parametrize("score", ["predictive_entropy", "bald", "variation_ratio"])
def test_nan_is_refused_by_name_and_other_ties_go_by_id(score):
    strategy = Ensemble(score=score)
    broken = ROWS.score.copy()
    broken[7] = np.nan
    with pytest.raises(SelectionError, match="x07"):
        select(strategy, replace(ROWS, score=broken), 5)
    if score != "variation_ratio":
        assert select(strategy, ROWS, 5).ids == ROWS.ids[:5]


@pytest.mark.parametrize("score", ["bald", "variation_ratio"])
def test_the_contract_holds_for_other_scores(score):
    check_strategy(partial(Ensemble, members=3, score=score))


def test_a_lot_by_score_is_drawn_as_for_any_other():
    rows = replace(ROWS, score=ROWS.score + 0.1)
    drawn = [select(Ensemble(score=score, sampling="power"), rows, 5, 1).ids for score in ("bald", "variation_ratio")]
    assert drawn[0] == drawn[1] != rows.ids[:5]


def test_errors_say_what_to_give():
    with pytest.raises(ConfigError, match=r"strategy.members = 1"):
        Ensemble(members=1)
    strategy = Ensemble()
    strategy.score = "entropy"  # what only a type checker would refuse otherwise
    with pytest.raises(
        ConfigError, match=r"strategy.score = 'entropy': it must be predictive_entropy, bald, variation"
    ):
        strategy.__post_init__()
    told = Batch(("a",), torch.zeros(1, 3, 6, 6), output=Output(torch.zeros(1, 3), torch.zeros(1, 5)))
    with pytest.raises(SelectionError, match="Ensemble has no committee yet"):
        Ensemble().measure(told)
    assert Ensemble().state() == {} and Ensemble().metrics() == {}
