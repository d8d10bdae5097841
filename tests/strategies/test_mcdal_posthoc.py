"""Post-hoc MCDAL against MCDAL's steps A and B written with separate heads and optimizers."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional as F

from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import select
from mcdal.networks import posthoc_fit
from mcdal.networks.moments import moments
from mcdal.networks.posthoc_fit import Features, apart, fit
from mcdal.networks.posthoc_heads import PosthocHeads
from mcdal.schedule import Optimization
from mcdal.selection.clusters import by_id
from mcdal.strategies.mcdal_posthoc import MCDALPosthoc
from mcdal.values import Rows


def rows(n=60, d=5, c=3, seed=0, labels=20):
    """Clusters of features, one a class; probabilities that follow them."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % c
    vector = (random.normal(size=(n, d)) + 2 * np.eye(c, d)[y]).astype(np.float32)
    p = (random.dirichlet(np.ones(c), n) + np.eye(c)[y]).astype(np.float32) / 2
    labeled = random.permutation(n) < labels
    ids = tuple(f"x{i:03d}" for i in random.permutation(n))
    return Rows(ids, labeled, vector=vector, probabilities=p, y=np.where(labeled, y, -1))


def naive_discrepancy(p, heads, z):
    """Eq. 4, one image and one pair at a time."""
    members = [p, *(head(z).softmax(1) for head in heads)]
    c = p.shape[1]
    return torch.stack([sum((a[i] - b[i]).abs().sum() / c for a, b in combinations(members, 2)) for i in range(len(p))])


def cuts(order, size, random):
    """Batches of one pass: the order as a ring, cut at a random place, its parts in random order."""
    start = random.integers(len(order))
    ring = [*order[start:], *order[:start]]
    for k in random.permutation(-(-len(order) // size)):
        yield ring[k * size : (k + 1) * size]


def naive_fit(heads, z, p, y, labeled, unlabeled, lr, passes, sizes, random, weight):
    """Steps A and B with one optimizer a set. The batches are drawn as `fit` draws them."""
    optimizer = torch.optim.SGD([w for h in heads for w in h.parameters()], lr=lr, momentum=0.9, weight_decay=5e-4)
    steps, step = passes * -(-len(unlabeled) // sizes[0]), 0
    unlabeled, labeled = random.permutation(unlabeled), random.permutation(labeled)
    known = (batch for _ in range(10**6) for batch in cuts(labeled, min(sizes[1], len(labeled)), random))
    cross_entropy = lambda k: sum(F.cross_entropy(h(z[k]), y[k]) for h in heads)  # noqa: E731
    for _ in range(passes):
        for u in cuts(unlabeled, sizes[0], random):
            few = next(known)
            optimizer.param_groups[0]["lr"] = lr * 0.2 ** sum(step >= round(m * steps) for m in (0.3, 0.6, 0.8))
            apart_of = lambda u=u: naive_discrepancy(p[u], heads, z[u]).mean()  # noqa: E731
            for loss in (cross_entropy, lambda k: cross_entropy(k) - weight * apart_of()):  # noqa: B023
                optimizer.zero_grad()
                loss(few).backward()
                optimizer.step()
            step += 1


@pytest.mark.parametrize(("sets", "number", "of_dis"), [(1, 2, 1.0), (2, 2, 1.0), (2, 3, 1.0), (2, 2, 3.0)])
@pytest.mark.parametrize(
    ("sizes", "standardized", "kept"), [((16, 7), True, True), ((16, 7), True, False), ((64, 64), False, True)]
)
def test_the_fit_is_steps_a_and_b_of_separate_heads(sets, number, of_dis, sizes, standardized, kept, monkeypatch):
    if not kept:
        monkeypatch.setattr(posthoc_fit, "KEPT", 0)
    given = rows()
    features = Features.of(given.vector, given.probabilities, np.arange(60), standardized)
    labeled, unlabeled = np.flatnonzero(given.labeled), np.flatnonzero(~given.labeled)
    y, (z, p) = torch.from_numpy(given.y), features[np.arange(60)]
    torch.manual_seed(0)
    heads = PosthocHeads(5, 3, sets, number, "l1")
    separate = [[nn.Linear(5, 3) for _ in range(number)] for _ in range(sets)]
    weight, bias = heads.linear.weight.view(sets, number, 3, 5), heads.linear.bias.view(sets, number, 3)
    with torch.no_grad():
        for s in range(sets):
            for k in range(number):
                separate[s][k].weight.copy_(weight[s, k])
                separate[s][k].bias.copy_(bias[s, k])
    random = np.random.default_rng(7)
    by_pass = fit(heads, features, labeled, y, unlabeled, Optimization(lr=0.3), 4, *sizes, random, weight=of_dis)
    for one in separate:
        naive_fit(one, z, p, y, labeled, unlabeled, 0.3, 4, sizes, np.random.default_rng(7), of_dis)
    with torch.no_grad():
        expected = torch.stack([naive_discrepancy(p, one, z) for one in separate]).mean(0)
        for s in range(sets):
            for k in range(number):
                torch.testing.assert_close(weight[s, k], separate[s][k].weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(apart(heads, features, np.arange(60)).float(), expected, rtol=1e-4, atol=1e-5)
    assert len(by_pass) == 4


@pytest.mark.parametrize("distance", ["l1", "l2", "kl"])
@pytest.mark.parametrize("number", [2, 3])
def test_slopes_are_the_gradients(distance, number):
    torch.manual_seed(0)
    heads = PosthocHeads(5, 3, 2, number, distance)
    z, p, y = torch.randn(8, 5), torch.rand(8, 3).softmax(1), torch.arange(8) % 3
    loss = -torch.stack([heads(z)[:, :, y[i], i].log() for i in range(8)]).sum() / 8 - heads.discrepancy(z, p).sum() / 8
    expected = torch.autograd.grad(loss, [heads.linear.weight, heads.linear.bias])
    with torch.no_grad():
        slope, total = heads.discrepancy_slope(z, p)
        heads.set_gradient((1 / 8, heads.cross_entropy_slope(z, y), z), (-1 / (8 * 3), slope, z))
    torch.testing.assert_close([heads.linear.weight.grad, heads.linear.bias.grad], list(expected), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(total, heads.discrepancy(z, p).sum().detach(), rtol=1e-4, atol=1e-6)


def test_a_small_pool_is_cut_into_sixteen_steps_a_pass(monkeypatch):
    sizes = []
    monkeypatch.setattr("mcdal.strategies.mcdal_posthoc.fit", lambda *given: sizes.append(given[7]) or [1.0])
    for batch_size in (2048, 2):
        select(MCDALPosthoc(batch_size=batch_size), rows(), 5)
    assert sizes == [3, 2]  # of 40 unlabeled rows


def test_picks_are_the_largest_discrepancies_of_unlabeled_rows():
    given = rows()
    strategy = MCDALPosthoc(passes=3)
    everything = select(strategy, given, 40, seed=1)
    assert sorted(everything.ids) == sorted(given.unlabeled().ids)
    assert (np.diff(everything.score) <= 0).all() and everything.score[0] > everything.score[-1] > 0
    assert everything.score[0] < 6 / 3
    few = select(strategy, given, 7, seed=1)
    assert few.ids == everything.ids[:7]
    np.testing.assert_array_equal(few.score, everything.score[:7])
    assert select(strategy, given, 40, seed=2).ids != everything.ids


def test_picks_may_be_even_over_the_predicted_classes():
    given = rows()
    picks = select(MCDALPosthoc(sampling="balanced"), given, 9)
    plain = select(MCDALPosthoc(), given, 40)
    classes = {id: given.probabilities[i].argmax() for i, id in enumerate(given.ids)}
    assert sorted(classes[id] for id in picks.ids) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    by_class = [[id for id in plain.ids if classes[id] == c][:3] for c in range(3)]
    assert set(picks.ids) == {id for ids in by_class for id in ids}


def test_the_last_bits_do_not_depend_on_the_order_of_the_rows():
    given = rows()
    moved = given.take(np.random.default_rng(3).permutation(60))
    one, two = (select(MCDALPosthoc(), r, 40) for r in (given, moved))
    assert one.ids == two.ids
    np.testing.assert_array_equal(one.score, two.score)


def test_heads_disagree_most_where_there_is_no_label():
    """Of three clusters one has no label, and the model calls it class 0 or 1."""
    random = np.random.default_rng(0)
    cluster = np.arange(300) % 3
    vector = (random.normal(size=(300, 4)) + 4 * np.eye(3, 4)[cluster]).astype(np.float32)
    share = np.where(cluster == 2, 0.5, np.where(cluster == 1, 0.05, 0.95))
    labeled = (cluster < 2) & (np.arange(300) < 60)
    p = np.stack([share, 1 - share], axis=1).astype(np.float32)
    given = Rows(
        tuple(f"x{i:03d}" for i in range(300)),
        labeled,
        vector=vector,
        probabilities=p,
        y=np.where(labeled, cluster, -1),
    )
    picks = select(MCDALPosthoc(passes=20), given, 50)
    picked = [cluster[int(id[1:])] for id in picks.ids]
    assert picked.count(2) >= 45


@pytest.mark.parametrize("distance", ["l1", "l2", "kl"])
def test_training_raises_the_discrepancy_on_unlabeled_rows_and_not_on_labeled_ones(distance):
    strategy = MCDALPosthoc(passes=40, distance=distance)
    picks = select(strategy, rows(), 40)
    assert strategy.fitted is not None and len(strategy.fitted.by_pass) == 40
    assert picks.score.mean() > 1.3 * strategy.fitted.labeled_mean
    assert strategy.fitted.by_pass[-1] > min(strategy.fitted.by_pass)


def test_the_fit_says_how_much_it_still_changed():
    strategy = MCDALPosthoc(passes=20)
    select(strategy, rows(), 5)
    by_pass = strategy.fitted.by_pass
    assert strategy.fitted.change == pytest.approx(by_pass[-1] / by_pass[-3] - 1)
    assert abs(strategy.fitted.change) < 0.05
    once = MCDALPosthoc(passes=1)
    select(once, rows(), 5)
    assert np.isnan(once.fitted.change)


def test_standardized_features_have_no_unit():
    given = rows()
    scaled = Rows(
        given.ids, given.labeled, vector=(given.vector * np.float32(40) + np.float32([9, 0, -3, 1, 2])),
        probabilities=given.probabilities, y=given.y,
    )  # fmt: skip
    one, two = (select(MCDALPosthoc(), r, 10) for r in (given, scaled))
    assert one.ids == two.ids
    np.testing.assert_allclose(one.score, two.score, rtol=1e-3)
    plain = select(MCDALPosthoc(standardize=False), given, 40)
    assert plain.ids != select(MCDALPosthoc(), given, 40).ids


def test_moments_are_exact_far_from_zero_and_in_parts(monkeypatch):
    vector = (np.random.default_rng(0).normal(size=(50, 3)) * [1, 10, 0] + [1e4, -5, 2]).astype(np.float32)
    monkeypatch.setattr("mcdal.networks.moments.SUMMED", 16)
    mean, deviation = moments(vector, np.arange(50))
    np.testing.assert_allclose(mean, vector.astype(float).mean(0), rtol=1e-12)
    np.testing.assert_allclose(deviation, vector.astype(float).std(0), rtol=1e-9, atol=1e-12)
    z, _ = Features.of(vector, np.ones((50, 2), dtype=np.float32), np.arange(50), standardized=True)[np.arange(50)]
    np.testing.assert_allclose(z.std(0, correction=0), [3**-0.5, 3**-0.5, 0], rtol=1e-3)  # a constant says nothing


def test_vectors_may_be_mapped_from_a_file(tmp_path):
    given = rows()
    np.save(tmp_path / "v.npy", given.vector)
    mapped = Rows(
        given.ids, given.labeled, vector=np.load(tmp_path / "v.npy", mmap_mode="r"), probabilities=given.probabilities,
        y=given.y,
    )  # fmt: skip
    assert select(MCDALPosthoc(), mapped, 9).ids == select(MCDALPosthoc(), given, 9).ids


@pytest.mark.parametrize(
    "fields",
    [
        {"heads": 1},
        {"pairs": 0},
        {"passes": 0},
        {"batch_size": 0},
        {"labeled_batch_size": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"weight_decay": -1.0},
    ],
)
def test_bad_fields_are_refused(fields):
    (name,) = fields
    with pytest.raises(ConfigError, match=f"strategy.{name} = {fields[name]}"):
        MCDALPosthoc(**fields)


def test_wrong_input_is_named():
    given = rows(labels=0)
    with pytest.raises(SelectionError, match="no row has one"):
        select(MCDALPosthoc(), given, 3)
    given = rows()
    given.probabilities[4, 1] = np.nan
    with pytest.raises(SelectionError, match=f"probabilities of '{given.ids[4]}' are not finite"):
        select(MCDALPosthoc(), given, 3)


def test_products_in_bfloat16_give_nearly_the_same_scores():
    """As a processor with instructions for it computes; heads, sums and scores are float32 all the same."""
    given, found = rows(n=800, d=32, c=5, labels=100), {}
    for precision in ("float32", "bfloat16"):
        strategy = MCDALPosthoc(passes=30, precision=precision)
        picks = select(strategy, given, 700)
        assert picks.score.dtype == np.float64
        found[precision] = picks.score[np.argsort(picks.ids)], strategy.fitted.by_pass
    (exact, by_pass), (coarse, coarse_by_pass) = found.values()
    assert 0 < np.abs(exact - coarse).mean() < 0.04 * exact.mean()
    assert spearmanr(exact, coarse).statistic > 0.99
    np.testing.assert_allclose(coarse_by_pass, by_pass, rtol=0.01)


@pytest.mark.parametrize(
    ("precision", "native", "expected"),
    [
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
        ("float32", True, torch.float32),
        ("bfloat16", False, torch.bfloat16),
    ],
)
def test_products_are_as_coarse_as_asked_for_or_as_the_processor_likes(precision, native, expected, monkeypatch):
    seen = []
    monkeypatch.setattr("mcdal.strategies.mcdal_posthoc.native_bfloat16", lambda device: native)
    monkeypatch.setattr("mcdal.strategies.mcdal_posthoc.fit", lambda *given: seen.append(given[10]) or [1.0])
    select(MCDALPosthoc(precision=precision), rows(), 5)
    assert seen == [expected]


def test_heads_are_trained_on_a_sample_and_all_rows_are_scored():
    given = rows()
    free = np.flatnonzero(~given.labeled)
    settings = {"passes": 3, "pairs": 1, "standardize": False}
    whole = MCDALPosthoc(**settings).select(given, len(free), 0)
    assert MCDALPosthoc(**settings, sample=len(free)).select(given, len(free), 0).score.tolist() == whole.score.tolist()
    strategy = MCDALPosthoc(**settings, sample=20)
    found = strategy.select(given, len(free), 0)
    scores = dict(zip(found.ids, found.score, strict=True))
    sample = strategy._sampled(given, by_id(given.ids, free), 0)
    assert len(set(sample.tolist())) == 20 and len(scores) == len(free)
    alone = MCDALPosthoc(**settings).select(given.take(np.concatenate([np.flatnonzero(given.labeled), sample])), 20, 0)
    assert all(abs(scores[id] - score) < 1e-6 for id, score in zip(alone.ids, alone.score, strict=True))
    with pytest.raises(ConfigError, match=r"strategy\.sample"):
        MCDALPosthoc(sample=0)
