"""BatchBALD on a trained model: what it measures, and what it refuses. Its greedy batch is tested in selection/."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import select
from mcdal.selection.batch_bald import batch_bald
from mcdal.strategies.bald import BALD
from mcdal.strategies.batch_bald import BatchBALD
from mcdal.testing import check_strategy, fake_pool, fake_trained
from mcdal.values import Batch, Rows


def test_vectors_are_the_probabilities_of_each_draw_and_scores_are_bald():
    strategy = BatchBALD(passes=7)
    it = fake_trained(strategy)
    torch.manual_seed(1)
    x = torch.randn(6, 3, 6, 6).double()
    with torch.no_grad():
        batch = Batch(tuple("abcdef"), x, output=it.model(x))
        measured, p = strategy.measure(batch), strategy._draws.probabilities(batch)
    assert measured.vector.shape == (6, 7 * 3)
    for i in range(6):
        assert measured.vector[i].tolist() == [p[t, i, c].item() for t in range(7) for c in range(3)]
    np.testing.assert_array_equal(it.rows().score, fake_trained(BALD(passes=7)).rows().score)


def test_the_first_pick_is_balds_and_the_score_of_a_pick_is_its_gain():
    strategy = BatchBALD(passes=10)
    rows = fake_trained(strategy).rows()
    picks = select(strategy, rows, 6, seed=2)
    left = rows.unlabeled()
    assert picks.ids[0] == left.ids[int(left.score.argmax())]
    assert picks.score[0] == pytest.approx(left.score.max(), rel=1e-5)  # vectors are kept in float32
    assert (np.diff(picks.score) <= 0).all() and (picks.score >= 0).all()


def test_the_order_of_ids_and_a_memory_mapped_vector_do_not_matter(tmp_path):
    strategy = BatchBALD(passes=10, combinations=30)
    rows = fake_trained(strategy).rows()
    picks = select(strategy, rows, 6, seed=2)
    np.save(tmp_path / "vector.npy", rows.vector)
    mapped = replace(rows, vector=np.load(tmp_path / "vector.npy", mmap_mode="r"))
    assert select(strategy, mapped, 6, seed=2).ids == picks.ids
    assert len(picks) == len(batch_bald(rows, 6, 10, 30, np.random.default_rng(0)))


def test_a_large_batch_is_refused_and_told_what_to_use():
    strategy = BatchBALD(passes=4)
    it = fake_trained(strategy, pool=fake_pool(n=80))
    rows = it.rows()
    with pytest.raises(SelectionError, match=r"at most 50 samples a round, and 51 were asked for.*Use power_bald"):
        select(strategy, rows, 51)
    assert len(select(strategy, rows, 50)) == 50
    few = rows.take(np.flatnonzero(~rows.labeled)[:9])
    assert len(select(strategy, few, 1_000)) == 9  # all that is left


def test_nan_is_refused_by_name():
    strategy = BatchBALD(passes=4)
    rows = fake_trained(strategy).rows()
    where = int(np.flatnonzero(~rows.labeled)[3])
    rows.vector[where, 5] = np.nan
    with pytest.raises(SelectionError, match=rows.ids[where]):
        select(strategy, rows, 3)
    with pytest.raises(SelectionError, match="class probabilities of 4 draws"):
        select(strategy, Rows(rows.ids, rows.labeled), 3)


def test_the_contract_holds_with_the_models_own_layers_and_drawn_combinations():
    check_strategy(partial(BatchBALD, passes=5, dropout=None, combinations=20))


def test_defaults_and_errors():
    assert BatchBALD().changes_task_model and not BatchBALD(dropout=None).changes_task_model
    with pytest.raises(ConfigError, match=r"strategy.combinations = 0"):
        BatchBALD(combinations=0)
    with pytest.raises(ConfigError, match=r"strategy.passes = 1"):
        BatchBALD(passes=1)
