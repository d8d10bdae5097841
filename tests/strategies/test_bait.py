"""BAIT against the trace written out, with explicit gradients, one matrix inverse a candidate."""

import numpy as np
import pytest

from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import select
from mcdal.selection import fisher
from mcdal.strategies.bait import BAIT
from mcdal.testing import fake_trained
from mcdal.values import Rows


def rows(n=30, c=3, d=4, seed=0):
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(c), n).astype(np.float32)
    z = random.normal(size=(n, d)).astype(np.float32)
    labeled = np.arange(n) < 6
    return Rows(tuple(f"x{i:03d}" for i in random.permutation(n)), labeled, vector=z, probabilities=p)


def information(p, z, likely):
    """sum over the likely classes y of q_y g_y g_y', g_y the gradient of -log p_y by the weights."""
    p, z = p.astype(float), z.astype(float)
    best = sorted(range(len(p)), key=lambda y: -p[y])[:likely]
    total = 0
    for y in best:
        g = np.outer(np.eye(len(p))[y] - p, z).ravel()
        total = total + p[y] / sum(p[best]) * np.outer(g, g)
    return total


def naive(given, budget, likely, regularization=1.0):
    """Forward to twice the budget, then prune."""
    info = [information(p, z, likely) for p, z in zip(given.probabilities, given.vector, strict=True)]
    f = sum(info) / len(info)
    m = regularization * np.eye(len(f)) + sum(i for i, labeled in zip(info, given.labeled, strict=True) if labeled)
    free = sorted((i for i in range(len(info)) if not given.labeled[i]), key=lambda i: given.ids[i])
    trace = lambda m: np.trace(np.linalg.inv(m) @ f)  # noqa: E731
    chosen, score = [], {}
    while len(chosen) < min(2 * budget, len(free)):
        best = min((i for i in free if i not in chosen), key=lambda i: trace(m + info[i]))
        score[best] = trace(m) - trace(m + info[best])
        m = m + info[best]
        chosen.append(best)
    while len(chosen) > budget:
        gone = min(chosen, key=lambda i: trace(m - info[i]))
        m = m - info[gone]
        chosen.remove(gone)
    return tuple(given.ids[i] for i in chosen), [score[i] for i in chosen]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("likely", "regularization"), [(None, 1.0), (2, 1.0), (1, 1.0), (None, 0.01)])
def test_picks_and_scores_are_those_of_the_naive_trace(seed, likely, regularization):
    given = rows(seed=seed)
    picks = select(BAIT(likely=likely, regularization=regularization), given, 5)
    ids, score = naive(given, 5, likely or 3, regularization)
    assert picks.ids == ids
    np.testing.assert_allclose(picks.score, score, rtol=1e-8)


def test_rows_that_are_read_anew_for_every_change_give_the_same_picks(monkeypatch):
    given = rows(n=60)
    kept = select(BAIT(), given, 7)
    monkeypatch.setattr(fisher, "COPIED", 0)
    read = select(BAIT(), given, 7)
    assert read.ids == kept.ids
    assert read.score.tolist() == kept.score.tolist()


def test_pruning_changes_the_batch():
    """For some of these inputs what greedy selection alone would pick is not what is left after pruning."""
    greedy = lambda given: naive(given, 24, 3)[0][:5]  # noqa: E731  all 24 that are free: nothing is pruned
    assert any(select(BAIT(), rows(seed=seed), 5).ids != greedy(rows(seed=seed)) for seed in range(6))


def test_all_classes_up_to_10_and_the_2_most_likely_beyond():
    few, many = rows(c=4), rows(n=24, c=11, d=2)
    assert select(BAIT(), few, 3).ids == select(BAIT(likely=4), few, 3).ids == naive(few, 3, 4)[0]
    assert select(BAIT(), many, 3).ids == select(BAIT(likely=2), many, 3).ids == naive(many, 3, 2)[0]
    assert select(BAIT(likely=2), few, 3).score[0] != select(BAIT(), few, 3).score[0]


def test_equal_rows_come_in_the_order_of_their_ids():
    given = rows()
    copied = np.arange(12, 18)
    given.vector[copied] = 3 * given.vector[12]
    given.probabilities[copied] = np.float32(1 / 3)
    names = sorted(given.ids[i] for i in copied)
    picks = select(BAIT(), given, 12).ids
    taken = [id for id in picks if id in names]
    assert len(taken) > 1 and taken == names[: len(taken)]


def test_rows_of_a_sure_model_and_of_no_label():
    given = rows()
    sure = np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    none = Rows(given.ids, np.zeros(30, dtype=bool), vector=given.vector, probabilities=given.probabilities)
    certain = Rows(given.ids, given.labeled, vector=given.vector, probabilities=sure)
    assert select(BAIT(), none, 4).ids == naive(none, 4, 3)[0]
    picks = select(BAIT(), certain, 4)  # no information anywhere: by id
    assert picks.ids == tuple(sorted(certain.unlabeled().ids)[:4]) and (picks.score == 0).all()


def test_too_large_a_head_is_refused_before_the_pass():
    with pytest.raises(SelectionError, match=r"3 classes x 5 features = 15 is above strategy.largest = 14"):
        fake_trained(BAIT(largest=14)).rows()
    assert fake_trained(BAIT(largest=15)).rows().vector is not None
    with pytest.raises(SelectionError, match="take badge"):
        select(BAIT(largest=11), rows(), 2)


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"regularization": 0.0}, "regularization = 0.0"), ({"likely": 0}, "likely = 0"), ({"largest": 0}, "largest = 0")],
)
def test_bad_fields_are_refused(fields, named):
    with pytest.raises(ConfigError, match=f"strategy.{named}"):
        BAIT(**fields)


def test_what_is_not_finite_is_named():
    given = rows()
    given.vector[9, 1] = np.nan
    with pytest.raises(SelectionError, match=f"features of '{given.ids[9]}' are not finite"):
        select(BAIT(), given, 3)
