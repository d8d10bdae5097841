"""BatchBALD's greedy batch, against joint entropies over all combinations of labels."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from mcdal.errors import SelectionError
from mcdal.selection import batch_bald as module
from mcdal.selection.batch_bald import Combinations, batch_bald
from mcdal.values import Rows


def pool(n=12, draws=4, classes=3, seed=0, labeled=0):
    """p[x, t, c], and the same as rows with ids in another order than their places."""
    random = np.random.default_rng(seed)
    z = random.normal(size=(n, 1, classes)) + 1.5 * random.normal(size=(n, draws, classes))
    p = np.exp(z) / np.exp(z).sum(2, keepdims=True)
    ids = tuple(f"x{i:02d}" for i in random.permutation(n).tolist())
    return p, Rows(ids, np.arange(n) < labeled, vector=p.reshape(n, -1))


def information(p, chosen):
    """I(y_1 ... y_b; w) = H(y_1 ... y_b) - sum_i 1/T sum_t H(p_t(x_i)), by adding up every combination of labels."""
    draws, classes = p.shape[1:]
    joint = 0.0
    for labels in product(range(classes), repeat=len(chosen)):
        each = [math.prod(p[x, t, y] for x, y in zip(chosen, labels, strict=True)) for t in range(draws)]
        share = sum(each) / draws
        joint -= share * math.log(share)
    alone = -sum(p[x, t, y] * math.log(p[x, t, y]) for x in chosen for t in range(draws) for y in range(classes))
    return joint - alone / draws


def naive_greedy(p, rows, budget):
    """Algorithm 1: all rows looked at for each pick; their joint information in full."""
    chosen, before, gains = [], 0.0, []
    for _ in range(budget):
        left = [x for x in range(len(p)) if x not in chosen and not rows.labeled[x]]
        totals = {x: information(p, [*chosen, x]) for x in left}
        best = min(left, key=lambda x: (-round(totals[x], 9), rows.ids[x]))
        gains.append(totals[best] - before)
        chosen.append(best)
        before = totals[best]
    return tuple(rows.ids[x] for x in chosen), gains


@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_that_of_all_combinations(seed):
    p, rows = pool(seed=seed, labeled=2)
    picks = batch_bald(rows, 5, 4, 3**5, np.random.default_rng(0))
    ids, gains = naive_greedy(p, rows, 5)
    assert picks.ids == ids
    np.testing.assert_allclose(picks.score, gains, atol=1e-9)
    by_bald = sorted(np.flatnonzero(~rows.labeled), key=lambda x: -information(p, [x]))[:5]
    assert picks.ids[0] == rows.ids[by_bald[0]]  # the first pick is BALD's; over the seeds, the others are not


def test_it_is_not_bald():
    """A copy of the best row says nothing new: BALD takes it second, BatchBALD does not."""
    p, rows = pool()
    bald = [information(p, [x]) for x in range(len(p))]
    p[3] = p[int(np.argmax(bald))]
    rows = Rows(rows.ids, rows.labeled, vector=p.reshape(len(p), -1))
    twins = {rows.ids[3], rows.ids[int(np.argmax(bald))]}
    assert len(twins & set(batch_bald(rows, 2, 4, 1_000, np.random.default_rng(0)).ids)) == 1
    assert batch_bald(rows, 1, 4, 1_000, np.random.default_rng(0)).ids == (min(twins),)  # ties by id


def naive_sampled(p, rows, budget, most, random):
    """All combinations while there are at most `most`; then as many drawn ones, each prolonged by a label at a time."""
    draws, classes = p.shape[1:]
    paths, exact = [((), 1.0)], True  # labels of the picks so far and their weight
    chosen, last = [], {x: information(p, [x]) for x in range(len(p))}
    posterior = lambda labels: np.array(  # noqa: E731
        [math.prod([p[x, t, y] for x, y in zip(chosen, labels, strict=True)]) for t in range(draws)]
    )
    for _ in range(budget):
        for x in set(range(len(p))) - set(chosen):
            given = [(weight, posterior(labels)) for labels, weight in paths]
            mean = sum(w * -sum(q * math.log(q) for q in share / share.sum() @ p[x]) for w, share in given)
            last[x] = min(last[x], max(0, mean + sum(q * math.log(q) for q in p[x].ravel()) / draws))
        best = min(set(range(len(p))) - set(chosen), key=lambda x: (-round(last[x], 9), rows.ids[x]))
        shares = [posterior(labels) / posterior(labels).sum() @ p[best] for labels, _ in paths]
        if exact and len(paths) * classes <= most:
            paths = [
                ((*labels, y), w * s[y]) for (labels, w), s in zip(paths, shares, strict=True) for y in range(classes)
            ]
        else:
            if exact:
                at = [np.searchsorted(np.cumsum([w for _, w in paths]), u, "right") for u in random.random(most)]
                paths, shares = [paths[i] for i in at], [shares[i] for i in at]
            ys = [
                int(np.searchsorted(np.cumsum(s), u, "right")) for s, u in zip(shares, random.random(most), strict=True)
            ]
            paths = [((*labels, y), 1 / most) for (labels, _), y in zip(paths, ys, strict=True)]
            exact = False
        chosen.append(best)
    return tuple(rows.ids[x] for x in chosen), [last[x] for x in chosen]


@pytest.mark.parametrize("most", [1, 12, 40])
def test_drawn_combinations_are_those_of_the_naive_version(most):
    p, rows = pool(n=6, classes=3, seed=1)  # one chunk: all are looked at for each pick
    picks = batch_bald(rows, 6, 4, most, np.random.default_rng(7))
    ids, gains = naive_sampled(p, rows, 6, most, np.random.default_rng(7))
    assert picks.ids == ids
    np.testing.assert_allclose(picks.score, gains, atol=1e-9)


def test_drawn_combinations_estimate_the_exact_entropy():
    """700 drawn of 3^7 combinations, each prolonged by a drawn label: within 4 standard errors of all 3^8."""
    p, _ = pool(n=20, draws=6, seed=3)
    p = torch.from_numpy(p)
    random = np.random.default_rng(0)
    exact = Combinations.of_nothing(6)
    for pick in p[:6]:
        exact = exact.with_pick(pick, 3**6, random)
    assert len(exact.weight) == 3**6 and exact.exact
    torch.testing.assert_close(exact.weight.sum(), torch.tensor(1.0).double())
    drawn = exact.with_pick(p[6], 700, random).with_pick(p[7], 700, random)
    assert len(drawn.weight) == 700 and not drawn.exact
    truth = exact.with_pick(p[6], 3**8, random).with_pick(p[7], 3**8, random)
    each = torch.special.entr(drawn.posterior @ p[8]).sum(1)
    assert abs(drawn.entropy(p[8:9]) - truth.entropy(p[8:9])) < 4 * each.std() / 700**0.5
    assert each.std() > 0.01


def test_few_combinations_at_once_say_the_same(monkeypatch):
    p = torch.from_numpy(pool(n=9)[0])
    known = Combinations.of_nothing(4)
    for pick in p[:3]:
        known = known.with_pick(pick, 1_000, np.random.default_rng(0))
    together = known.entropy(p)
    monkeypatch.setattr(module, "BLOCK", 4)
    assert len(known.weight) == 27
    torch.testing.assert_close(known.entropy(p), together, rtol=1e-13, atol=1e-13)


def test_weights_are_probabilities_and_impossible_labels_are_left_out():
    p = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]).double()
    one = Combinations.of_nothing(2).with_pick(p, 100, np.random.default_rng(0))
    np.testing.assert_allclose(one.weight, [0.75, 0.25])
    np.testing.assert_allclose(one.posterior, [[2 / 3, 1 / 3], [0.0, 1.0]])
    drawn = one.with_pick(p, 5, np.random.default_rng(0))
    assert drawn.posterior.isfinite().all()
    np.testing.assert_allclose(drawn.posterior.sum(1), np.ones(5))


def test_rows_are_looked_at_only_while_their_last_gain_could_be_the_largest(monkeypatch):
    """On most of a pool the draws agree: after the first look nobody returns to it, and the picks are the same."""
    p, rows = pool(n=200, seed=4)
    agreeing = (np.arange(200) >= 20)[:, None, None]
    p = np.where(agreeing, 0.9 * p.mean(1, keepdims=True) + 0.1 * p, p)
    rows = Rows(rows.ids, rows.labeled, vector=p.reshape(200, -1))
    looked = []
    real = module._gain
    monkeypatch.setattr(module, "_gain", lambda p, known: looked.append(len(p)) or real(p, known))
    monkeypatch.setattr(module, "AT_ONCE", 4)  # one row at a time
    picks = batch_bald(rows, 4, 4, 1_000, np.random.default_rng(0))
    assert picks.ids == naive_greedy(p, rows, 4)[0]
    assert 4 <= sum(looked[200:]) < 4 * 20


@pytest.mark.parametrize("most", [20, 1_000])
def test_the_order_of_the_rows_does_not_matter(most):
    _, rows = pool(n=30, draws=5)
    picks = batch_bald(rows, 6, 5, most, np.random.default_rng(0))
    for seed in range(5):
        shuffled = rows.take(np.random.default_rng(seed).permutation(30))
        again = batch_bald(shuffled, 6, 5, most, np.random.default_rng(0))
        assert again.ids == picks.ids and again.score.tolist() == picks.score.tolist()


def test_ties_are_broken_by_id_to_the_end():
    """Equal rows, and draws that say all the same: every gain is 0, and the ids decide."""
    p = np.full((9, 4, 3), 1 / 3)
    rows = Rows(tuple("hcaidgebf"), np.zeros(9, dtype=bool), vector=p.reshape(9, -1))
    picks = batch_bald(rows, 9, 4, 100, np.random.default_rng(0))
    assert picks.ids == tuple("abcdefghi")
    assert picks.score.tolist() == [0.0] * 9


def test_all_gains_together_are_at_most_log_t():
    _, rows = pool(n=60, draws=4, classes=3, seed=2)
    picks = batch_bald(rows, 20, 4, 5_000, np.random.default_rng(0))
    assert len(set(picks.ids)) == 20
    assert 0.9 * math.log(4) < picks.score.sum() < math.log(4) + 0.03
    assert (np.diff(picks.score) <= 0).all()  # each is worth less than the one before


def test_nan_is_refused_by_name_and_a_wrong_vector_too():
    _, rows = pool()
    rows.vector[4, 2] = np.nan
    with pytest.raises(SelectionError, match=f"the first of sample '{rows.ids[4]}'"):
        batch_bald(rows, 2, 4, 100, np.random.default_rng(0))
    with pytest.raises(SelectionError, match="class probabilities of 5 draws"):
        batch_bald(rows, 2, 5, 100, np.random.default_rng(0))
    labeled = Rows(rows.ids, np.arange(12) == 4, vector=rows.vector)
    assert len(batch_bald(labeled, 2, 4, 100, np.random.default_rng(0))) == 2  # nobody asks what a labeled row is worth
