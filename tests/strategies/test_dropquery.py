"""DropQuery: candidates by the paper's rule, written naively with the masks that the strategy drew."""

import numpy as np
import pytest
import torch

from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import select
from mcdal.selection.k_means import among_candidates
from mcdal.strategies.dropquery import DropQuery
from mcdal.streams import stream
from mcdal.tasks.classification import Classification
from mcdal.testing import FakeModel, fake_setting, fake_trained
from mcdal.values import Batch, Output, Rows


def attached(width=16, **fields):
    torch.manual_seed(0)
    model = FakeModel(4, width=width).double().eval()
    strategy = DropQuery(**fields)
    strategy.attach(model, Classification(tuple("abcd")), fake_setting(model))
    return strategy, model


def batch(model, n=50, seed=1):
    torch.manual_seed(seed)
    x, z = torch.zeros(n, 3, 6, 6).double(), torch.randn(n, 16).double()
    with torch.no_grad():
        return Batch(tuple(f"x{i:02d}" for i in range(n)), x, output=Output(model.head(z), z))


def masks(strategy, width):
    random = torch.Generator().manual_seed(stream(strategy._draws._seed, "head"))
    return torch.rand(strategy.passes, width, generator=random, dtype=torch.float64) >= strategy.dropout


@pytest.mark.parametrize("fields", [{}, {"passes": 5}, {"passes": 8, "dropout": 0.5}])
def test_score_is_the_share_of_passes_that_answer_otherwise(fields):
    strategy, model = attached(**fields)
    given = batch(model)
    measured = strategy.measure(given)
    kept = masks(strategy, 16)
    expected = []
    for z in given.output.features:
        says = lambda z: int((model.head.weight @ z + model.head.bias).argmax())  # noqa: E731
        dropped = [z * m / (1 - strategy.dropout) for m in kept]
        expected.append(sum(says(d) != says(z) for d in dropped) / len(dropped))
    np.testing.assert_allclose(measured.score.numpy(), expected, atol=1e-12)
    assert len(set(expected)) > 2
    assert torch.equal(measured.vector, given.output.features)


def test_candidates_are_those_that_most_passes_change():
    strategy, _ = attached()
    random = np.random.default_rng(0)
    score = np.array([0, 1 / 3, 2 / 3, 1])[np.arange(40) % 4]
    labeled = np.arange(40) < 8
    rows = Rows(tuple(f"x{i:02d}" for i in range(40)), labeled, score, random.normal(size=(40, 5)).astype(np.float32))
    candidate = np.isin(np.arange(40) % 4, [2, 3])
    assert select(strategy, rows, 6, 3).ids == among_candidates(rows, candidate, 6, 3).ids
    changed = {id for id, c, lab in zip(rows.ids, candidate, labeled, strict=True) if c and not lab}
    assert len(changed) == 16
    assert set(select(strategy, rows, 6, 3).ids) < changed
    assert set(select(strategy, rows, 20, 3).ids[:16]) == changed  # too few: all of them, then others by lot


def test_half_of_the_passes_is_not_most():
    strategy, _ = attached(passes=2)
    rows = Rows(tuple("abcd"), np.zeros(4, dtype=bool), np.array([0.5, 1, 0, 0.5]), np.eye(4, dtype=np.float32))
    assert select(strategy, rows, 1).ids == ("b",)


def test_the_task_model_is_trained_without_dropout():
    assert not DropQuery().changes_task_model


@pytest.mark.parametrize("fields", [{"passes": 1}, {"dropout": 0.0}, {"dropout": 1.0}])
def test_bad_fields_are_refused(fields):
    (name,) = fields
    with pytest.raises(ConfigError, match=f"strategy.{name} = {fields[name]}"):
        DropQuery(**fields)


def test_nan_is_named():
    strategy, model = attached()
    given = batch(model, n=6)
    logits = given.output.logits.clone()
    logits[2, 0] = torch.nan
    score = strategy.measure(given.with_output(Output(logits, given.output.features))).score
    assert score.isnan().tolist() == [False, False, True, False, False, False]
    rows = fake_trained(DropQuery()).rows()
    where = int(np.flatnonzero(~rows.labeled)[3])
    rows.score[where] = np.nan
    with pytest.raises(SelectionError, match=rows.ids[where]):
        select(DropQuery(), rows, 3)


def test_without_training_there_are_no_masks():
    _, model = attached()
    with pytest.raises(SelectionError, match="train with this strategy first"):
        DropQuery().measure(batch(model))
