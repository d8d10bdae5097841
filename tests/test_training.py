"""Training: the schedule, the order of images, bad losses, and what a step costs a strategy that takes none."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mcdal.augment import Augment
from mcdal.checkpoint import Checkpoint
from mcdal.errors import ConfigError, TrainingError
from mcdal.feed import endless
from mcdal.measuring import evaluate
from mcdal.models.aside import aside
from mcdal.models.base import Model, apply_head
from mcdal.pool.base import ArrayImages, UnlabeledView
from mcdal.pool.masks import ArrayMasks
from mcdal.scenes import SceneAugment
from mcdal.schedule import Optimization
from mcdal.strategies.base import Strategy
from mcdal.strategies.mcdal import MCDAL
from mcdal.strategies.random import Random
from mcdal.testing import NUMERICS, FakeModel, fake_pool, fake_scenes, fake_trained, fake_training
from mcdal.training import Training, train
from mcdal.values import Output


def test_the_papers_schedule():
    """100 epochs of 390 steps: one warm-up epoch, then .1, .02, .004, .0008 from 30, 60 and 80 % on."""
    training = Training()
    rate = lambda step: training.optimization.rate(step, training.steps, training.warmup, 39)  # noqa: E731
    assert training.steps == 39_000
    assert rate(0) == pytest.approx(0.1 / 390)
    assert rate(389) == pytest.approx(0.1)
    assert max(rate(step) for step in range(0, 39_000, 13)) <= 0.1, "the warm-up overshoots"
    for epoch, lr in [
        (1, 0.1),
        (29, 0.1),
        (30, 0.02),
        (59, 0.02),
        (60, 0.004),
        (79, 0.004),
        (80, 0.0008),
        (99, 0.0008),
    ]:
        assert rate(390 * epoch) == pytest.approx(lr), epoch
    assert rate(390 * 30 - 1) == pytest.approx(0.1)


def test_the_published_warmup_overshoots_tenfold_at_10_percent():
    optimization = Optimization(published_warmup=True)
    assert optimization.rate(389, 39_000, 390, 5_000 // 128) == pytest.approx(1.0)
    assert optimization.rate(389, 39_000, 390, 20_000 // 128) == pytest.approx(0.25)
    assert optimization.rate(390, 39_000, 390, 5_000 // 128) == pytest.approx(0.1)


@pytest.mark.parametrize(("n", "size"), [(10, 3), (3, 8), (1, 4), (7, 7)])
def test_endless_shows_every_index_equally_often(n, size):
    stream = endless(n, size, seed=4)
    drawn = np.concatenate([next(stream) for _ in range(n * 3)])
    assert (np.bincount(drawn[: len(drawn) // n * n], minlength=n) == len(drawn) // n).all()
    for start in range(0, len(drawn) - n, n):
        assert sorted(drawn[start : start + n]) == list(range(n)), "each pass is a permutation"


def test_endless_begins_anywhere():
    whole, later = endless(10, 4, seed=1), endless(10, 4, seed=1, start=6)
    for _ in range(6):
        next(whole)
    for _ in range(5):
        np.testing.assert_array_equal(next(whole), next(later))
    assert not np.array_equal(next(endless(100, 50, seed=1)), next(endless(100, 50, seed=2)))


def test_hooks_that_are_not_overridden_cost_nothing(monkeypatch):
    """Random reads no unlabeled batch and makes no pass over the pool."""
    read = []
    real = type(fake_pool().images).batches

    def batches(self, positions, device):
        for chosen in positions:
            read.append({self.ids[i] for i in chosen})
            yield from real(self, [chosen], device)

    monkeypatch.setattr(type(fake_pool().images), "batches", batches)
    trained = fake_trained(Random())
    assert set().union(*read) <= set(trained.labels)
    read.clear()
    trained.rows()
    assert read == []


def test_step_sees_unlabeled_images_without_labels():
    seen = []

    class Looks(Strategy):
        def step(self, labeled, unlabeled, progress):
            seen.append((set(labeled.ids), set(unlabeled.ids), unlabeled.y, unlabeled.output, progress))
            assert labeled.output is not None and not labeled.output.logits.requires_grad

    trained = fake_trained(Looks())
    assert len(seen) == 8
    for step, (labeled, unlabeled, y, output, progress) in enumerate(seen):
        assert labeled <= set(trained.labels)
        assert not unlabeled & set(trained.labels)
        assert y is None and output is None
        assert progress.step == step and progress.fraction == step / 8
    assert "y" not in {field for field in UnlabeledView.__dataclass_fields__}  # noqa: C416


def test_extra_loss_changes_the_task_model_and_is_declared():
    class Pulls(Strategy):
        def extra_loss(self, batch, losses, progress):
            return batch.output.features.square().mean()

    pulled, random = fake_trained(Pulls()), fake_trained(Random())
    assert pulled.strategy.changes_task_model and not random.strategy.changes_task_model
    assert not torch.equal(pulled.model.head.weight, random.model.head.weight)


def test_aside_keeps_every_buffer_and_no_gradient():
    torch.manual_seed(0)
    model = FakeModel(3).train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    with aside(model):
        output = model(torch.randn(8, 3, 6, 6))
    assert model.training and not output.logits.requires_grad
    for name, value in model.named_buffers():
        assert torch.equal(value, before[name]), name
    with pytest.raises(RuntimeError, match="broken"), aside(model):
        model(torch.randn(8, 3, 6, 6))
        raise RuntimeError("broken")
    assert torch.equal(model.encoder[1].running_mean, before["encoder.1.running_mean"])


def test_no_labels_is_an_error():
    with pytest.raises(TrainingError, match="no labeled sample"):
        train(FakeModel(3), fake_pool(), {}, Random(), fake_training(), numerics=NUMERICS)


def test_a_loss_that_is_not_finite_stops():
    pool = fake_pool()
    labels = {id: pool.truth()[id] for id in pool.images.ids[:10]}
    training = replace(fake_training(), optimization=Optimization(lr=1e200))
    with pytest.raises(TrainingError, match=r"training loss is (nan|inf) at step"):
        train(FakeModel(3), pool, labels, Random(), training, numerics=NUMERICS)


def test_one_label_and_a_whole_pool_of_labels_train():
    pool = fake_pool()
    for n in (1, len(pool)):
        labels = dict(list(pool.truth().items())[:n])
        trained = train(FakeModel(3), pool, labels, Random(), fake_training(), numerics=NUMERICS)
        assert 0 <= trained.metrics["train/accuracy"] <= 1


@pytest.mark.parametrize(
    "name", ["epochs", "steps_per_epoch", "batch_size", "unlabeled_batch_size", "measure_batch_size"]
)
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ConfigError, match=f"training.{name} = 0"):
        Training(**{name: 0})


def test_a_model_that_was_tested_first_trains_and_its_heads_do_too():
    pool = fake_pool()
    labels = {id: pool.truth()[id] for id in pool.images.ids[:10]}
    model, strategy = FakeModel(3), MCDAL()
    model.head = torch.nn.Sequential(torch.nn.Dropout(0.5), model.head)
    for last in (True, True):
        evaluate(model, pool, numerics=replace(NUMERICS, channels_last=last))
        train(model, pool, labels, strategy, fake_training(), numerics=replace(NUMERICS, channels_last=last))
    attached = []
    strategy.attach, real = (
        lambda *given: (real(*given), attached.append(strategy._heads.heads[0].training)),
        strategy.attach,
    )
    train(model, pool, labels, strategy, fake_training(), numerics=NUMERICS)
    assert attached == [True]


def test_a_state_that_could_not_be_loaded_again_is_refused_at_once(tmp_path):
    class Keeps(Strategy):
        def state(self):
            return {"counter": self}

        def state_dict(self):
            return {"seen": np.float64(3.0)}

        def load_state_dict(self, state):
            raise AssertionError

    class Counts(Strategy):
        def metrics(self):
            return {"train/seen": np.float64(3.0)}

    for strategy in (Keeps(), Counts()):
        pool = fake_pool()
        labels = {id: pool.truth()[id] for id in pool.images.ids[:10]}
        keeper = Checkpoint(tmp_path / "training.pt", 0.0)
        given = FakeModel(3), pool, labels, strategy, fake_training()
        if isinstance(strategy, Counts):
            train(*given, numerics=NUMERICS, keeper=keeper)
            assert keeper.load()["metrics"]["train/seen"] == 3.0
        else:
            with pytest.raises(
                TrainingError, match="the strategy's state 'counter' holds what a checkpoint cannot load"
            ):
                train(*given, numerics=NUMERICS, keeper=keeper)
            assert keeper.load() is None


class Teller(Model):
    """Knows the class of every pixel from its brightness, so that it is right wherever mask and image belong together."""

    def __init__(self, classes: int):
        super().__init__()
        self.levels = torch.arange(classes, dtype=torch.float32)
        self.head = nn.Conv2d(classes, classes, 1)
        nn.init.dirac_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        nearness = -(x.mean(1, keepdim=True) - self.levels.view(1, -1, 1, 1)).square()
        return Output(apply_head(self.head, nearness), nearness)


def told_scenes(n=12, classes=3):
    """Scenes of 16x16 in blocks of 8x8; a pixel of class c has the value c once it is normalised."""
    masks = np.random.default_rng(0).integers(0, classes, (n, 2, 2)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    pixels = np.repeat(masks[..., None] * 51, 3, axis=3)
    pool = fake_scenes(n, classes)
    return replace(
        pool, images=ArrayImages(pool.images.ids, pixels), masks=ArrayMasks(masks), mean=(0.0,) * 3, std=(0.2,) * 3
    )


@pytest.mark.parametrize(
    "augment",
    [
        SceneAugment(scale=(1.0, 1.0)),
        SceneAugment(scale=(1.5, 2.0), crop=(12, 10)),
        Augment(crop_padding=2, flip=True, rotation=0.0),
    ],
    ids=["flip", "scale and crop", "shift and flip"],
)
def test_masks_are_learned_as_they_moved_with_their_images(augment):
    pool = told_scenes()
    labels = pool.truth()
    still = fake_training(augment=augment, optimization=Optimization(lr=0.0), epochs=1, steps_per_epoch=10)
    trained = train(Teller(3), pool, labels, Random(), still, numerics=NUMERICS, seed=0)
    # Where two blocks meet, the pixel between them is a mixture; of masks that stayed where they were, half would fit.
    assert trained.metrics["train/accuracy"] > (0.85 if isinstance(augment, SceneAugment) and augment.crop else 0.999)
