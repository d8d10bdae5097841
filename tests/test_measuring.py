"""One pass over the pool: complete, in test-time form, by id; and the published sampling, flaws included."""

import numpy as np
import pytest
import torch

from mcdal.augment import Augment
from mcdal.measuring import evaluate, measure
from mcdal.strategies.base import Strategy
from mcdal.testing import NUMERICS, fake_trained
from mcdal.values import Measurement


class Counts(Strategy):
    """The mean brightness as a score, two numbers as a vector."""

    def measure(self, batch):
        assert batch.y is None
        assert not torch.is_grad_enabled()
        return Measurement(score=batch.x.mean((1, 2, 3)), vector=batch.x.amax((2, 3))[:, :2])


@pytest.mark.parametrize("batch_size", [1, 7, 60, 512])
def test_every_sample_has_its_row(batch_size):
    trained = fake_trained(Counts())
    rows = trained.rows(batch_size)
    pool = trained.pool
    x = (pool.images.pixels / 255 - np.array(pool.mean)) / np.array(pool.std)
    # Pixels are normalised in float32, whatever the network computes in.
    np.testing.assert_allclose(rows.score, x.mean((1, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(rows.vector, x.max((1, 2))[:, :2], atol=1e-5)
    assert rows.ids == pool.images.ids


def test_published_sampling_augments_and_drops_the_last_partial_batch():
    trained = fake_trained(Counts())
    rows = measure(
        trained.model,
        trained.pool,
        trained.labels,
        trained.strategy,
        numerics=NUMERICS,
        batch_size=16,
        augment=Augment(),
    )
    clean = trained.rows()
    dropped = slice(48, 60)
    assert (rows.score[dropped] == rows.score.min()).all()
    assert not np.isclose(rows.score[:48], clean.score[:48]).all()


def test_evaluate_counts_every_test_image_once():
    trained = fake_trained(Counts())
    found = {size: evaluate(trained.model, trained.pool, numerics=NUMERICS, batch_size=size) for size in (7, 30)}
    assert found[7] == pytest.approx(found[30])
    model, test = trained.model.eval(), trained.pool.test
    x = (test.images.pixels / 255 - np.array(trained.pool.mean)) / np.array(trained.pool.std)
    with torch.no_grad():
        logits = model(torch.from_numpy(x).permute(0, 3, 1, 2)).logits
    right = (logits.argmax(1).numpy() == test.y).astype(float)
    assert found[30]["test/accuracy"] == pytest.approx(right.mean())
    recall = [right[test.y == c].mean() for c in range(3)]
    assert found[30]["test/balanced_accuracy"] == pytest.approx(np.mean(recall))
    assert found[30]["test/accuracy/class 1"] == pytest.approx(recall[1])
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(test.y)).item()
    assert found[30]["test/loss"] == pytest.approx(loss, rel=1e-5)
