"""One pass over the pool: complete, in test-time form, by id; and the published sampling, flaws included."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mcdal.augment import Augment
from mcdal.errors import SelectionError
from mcdal.measuring import evaluate, measure, select
from mcdal.strategies.base import Strategy
from mcdal.strategies.margin import Margin
from mcdal.strategies.mcdal import MCDAL
from mcdal.testing import NUMERICS, FakeModel, fake_pool, fake_trained
from mcdal.values import Measurement, Picks


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


def test_published_sampling_augments_and_drops_other_unlabeled_images_each_time():
    trained = fake_trained(Counts())
    clean, lowest = trained.rows(), []
    for seed in range(3):
        rows = measure(
            trained.model, trained.pool, trained.labels, trained.strategy, numerics=NUMERICS, batch_size=16,
            augment=Augment(), seed=seed,
        )  # fmt: skip
        assert rows.ids == clean.ids
        assert not np.isclose(rows.score, clean.score).all()
        assert np.corrcoef(rows.score, clean.score)[0, 1] > 0.3, "each row is still its own image's"
        dropped = {id for id, score in zip(rows.ids, rows.score, strict=True) if score == rows.score.min()}
        # 40 unlabeled images are two batches of 16 and 8 that are dropped; one more has the lowest score by itself.
        assert len(dropped) == 9 and len(dropped & set(trained.labels)) <= 1
        lowest.append(dropped)
    assert lowest[0] != lowest[1] != lowest[2]
    whole = measure(
        trained.model,
        trained.pool,
        trained.labels,
        trained.strategy,
        numerics=NUMERICS,
        batch_size=64,
        augment=Augment(),
    )
    assert len(set(whole.score.tolist())) == 60, "a pool smaller than a batch is not dropped"


def test_scores_of_another_shape_and_a_strategy_without_training_are_told():
    class Column(Strategy):
        def measure(self, batch):
            return Measurement(score=batch.x.mean((2, 3))[:, :1])

    trained = fake_trained(Column())
    with pytest.raises(SelectionError, match=r"scores of shape \(16, 1\) on 16 samples: give \(16,\)"):
        trained.rows()
    with pytest.raises(SelectionError, match="MCDAL has no heads yet: train with this object first"):
        measure(trained.model, trained.pool, trained.labels, MCDAL(), numerics=NUMERICS)


def test_select_draws_from_its_seed_alone():
    class Draws(Strategy):
        def select(self, rows, budget, seed):
            order = torch.randperm(len(rows.unlabeled().ids))[:budget].tolist()
            return Picks(tuple(rows.unlabeled().ids[i] for i in order), np.zeros(budget))

    rows = fake_trained(Counts()).rows()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one, two, other = (select(Draws(), rows, 5, seed).ids for seed in (3, 3, 4))
    assert one == two != other
    assert torch.equal(torch.get_rng_state(), state)


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


class Compiled(FakeModel):
    """Says how often its encoder is compiled."""

    times = 0

    def compile(self, **options):
        def backend(graph, _):
            self.times += 1
            return graph

        if self.encoder._compiled_call_impl is None:
            self.encoder.compile(backend=backend, **options)


@pytest.mark.slow  # the compiler takes seconds to import
def test_only_full_batches_run_compiled():
    """Else each size of a last batch would be compiled, the ninth and all that follow run plainly: by the order of shards."""
    torch.manual_seed(0)
    model, plain = Compiled(3), FakeModel(3)
    plain.load_state_dict(model.state_dict())
    compiling = replace(NUMERICS, compile=True)
    for n in range(17, 28):
        pool = fake_pool(n)
        rows = measure(model, pool, {}, Margin(), numerics=compiling, batch_size=8)
        np.testing.assert_allclose(rows.score, measure(plain, pool, {}, Margin(), numerics=NUMERICS).score, rtol=1e-9)
    assert model.times == 1
