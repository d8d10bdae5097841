"""Post-hoc MCDAL's heads where the rows were measured: a fit on CUDA is that of the CPU up to rounding, and repeats its bits."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from mcdal.measuring import select
from mcdal.networks import posthoc_fit
from mcdal.strategies.mcdal_posthoc import MCDALPosthoc
from mcdal.values import Batch, Output, Rows

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def rows(n=1500, d=64, c=5, labels=300):
    """As features of a trained network: clusters, one a class; probabilities that follow them."""
    random = np.random.default_rng(0)
    y = np.arange(n) % c
    vector = (random.normal(size=(n, d)) + 2 * random.normal(size=(c, d))[y]).astype(np.float32)
    p = (random.dirichlet(np.ones(c), n) + np.eye(c)[y]).astype(np.float32) / 2
    labeled = random.permutation(n) < labels
    return Rows(
        tuple(f"x{i:04d}" for i in range(n)), labeled, vector=vector, probabilities=p, y=np.where(labeled, y, -1)
    )


def measured_on(device, precision="float32", **fields):
    """A strategy that has measured a batch there."""
    strategy, zeros = MCDALPosthoc(passes=20, precision=precision, **fields), torch.zeros(1, 2, device=device)
    strategy.measure(Batch(("x",), zeros[:, :, None, None], output=Output(zeros, zeros)))
    return strategy


def fitted(strategy):
    """Scores of all unlabeled rows in the order of ids, and L_dis by pass."""
    picks = select(strategy, rows(), 10**6, seed=3)
    return picks.score[np.argsort(picks.ids)], strategy.fitted.by_pass


@pytest.mark.parametrize("distance", ["l1", "l2", "kl"])
@pytest.mark.parametrize("heads", [2, 3])
def test_the_fit_is_that_of_the_cpu(distance, heads):
    (here, here_by_pass), (there, there_by_pass) = (
        fitted(measured_on(device, distance=distance, heads=heads)) for device in ("cpu", "cuda")
    )
    assert spearmanr(here, there).statistic > 0.999
    np.testing.assert_allclose(there, here, rtol=0.01)
    np.testing.assert_allclose(there_by_pass, here_by_pass, rtol=0.001)


def test_on_cuda_products_are_coarse_only_where_asked_for():
    exact, auto, coarse = (fitted(measured_on("cuda", precision))[0] for precision in ("float32", "auto", "bfloat16"))
    np.testing.assert_array_equal(auto, exact)
    assert (coarse != exact).any() and spearmanr(coarse, exact).statistic > 0.99


@pytest.mark.parametrize("distance", ["l1", "l2", "kl"])
def test_the_same_seed_gives_the_same_bits(distance):
    (one, one_by_pass), (two, two_by_pass) = (fitted(measured_on("cuda", distance=distance)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one_by_pass == two_by_pass


@pytest.mark.parametrize("distance", ["l1", "kl"])
def test_a_replayed_fit_is_the_ordinary_one(distance, monkeypatch):
    replayed, _ = fitted(measured_on("cuda", distance=distance))
    monkeypatch.setattr(posthoc_fit, "Replayed", lambda work, device: work)
    ordinary, _ = fitted(measured_on("cuda", distance=distance))
    np.testing.assert_array_equal(replayed, ordinary)


def test_features_that_do_not_fit_are_sent_batch_by_batch(monkeypatch):
    kept, _ = fitted(measured_on("cuda"))
    monkeypatch.setattr(posthoc_fit, "_room", lambda device: 0)
    sent, _ = fitted(measured_on("cuda"))
    np.testing.assert_array_equal(kept, sent)


def test_batches_of_every_size_and_a_single_one():
    """Few labels make one labeled batch; as many rows a step as there are make steps of one size alone."""
    for fields in ({"batch_size": 7}, {"batch_size": 75}, {"labeled_batch_size": 1000}, {"labeled_batch_size": 7}):
        score, _ = fitted(measured_on("cuda", **fields))
        assert np.isfinite(score).all() and score.min() > 0
