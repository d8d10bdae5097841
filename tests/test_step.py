"""A step that is put off and taken beside the next one gives the same numbers, also when a training is killed and continued."""

from dataclasses import replace

import pytest
import torch

from mcdal.artifacts import Checkpoint
from mcdal.models.resnet import ResNet
from mcdal.scenes import SceneAugment
from mcdal.step import Step
from mcdal.strategies.mcdal import MCDAL
from mcdal.strategies.random import Random
from mcdal.testing import Fake, FakeDense, fake_pool, fake_scenes, fake_training
from mcdal.training import train

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="steps are replayed on CUDA only")


class KilledError(Exception):
    pass


class Dies(Checkpoint):
    """Keeps the state of some steps, and dies after the last of them."""

    def __init__(self, path, steps):
        super().__init__(path, 0.0)
        self.steps, self.asked = list(steps), 0

    def due(self):
        self.asked += 1
        return self.asked in self.steps

    def save(self, state):
        super().save(state)
        if state["step"] == self.steps[-1]:
            raise KilledError


def ended(device, strategy, architecture=None, replay=False, killed=None, compiled=False):
    """Metrics, weights and the strategy's own weights after a training; killed: a file and the steps that are kept there."""
    dense = architecture is not None and architecture.dense
    pool = fake_scenes() if dense else fake_pool()
    labels = {id: pool.truth()[id] for id in pool.images.ids[:20]}
    augment = SceneAugment() if dense else fake_training().augment
    training = replace(fake_training(), epochs=2, steps_per_epoch=12, compile=compiled, replay=replay, augment=augment)

    def go(keeper=None):
        torch.manual_seed(0)
        model = (architecture or ResNet(10, 8)).build(len(pool.classes), *pool.shape)
        beside = strategy()
        numerics = training.numerics(device)
        trained = train(model, pool, labels, beside, training, numerics=numerics, seed=3, keeper=keeper)
        own = [
            tensor.cpu()
            for part in beside.state().values()
            if isinstance(part, torch.nn.Module)
            for tensor in part.state_dict().values()
        ]
        return trained.metrics, [*(t.cpu() for t in model.state_dict().values()), *own]

    if killed is None:
        return go()
    path, steps = killed
    with pytest.raises(KilledError):
        go(Dies(path, steps))
    return go(Checkpoint(path, 1e9))


def assert_same(one, other):
    assert one[0] == other[0]
    assert all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


@pytest.mark.parametrize("architecture", [ResNet(10, 8), FakeDense(dropout=0.0)], ids=["images", "scenes"])
def test_learning_ahead_is_learning_in_turn(monkeypatch, tmp_path, architecture):
    """Without a device that does two things at once: the order of the work is the same."""
    ordinary = ended("cpu", MCDAL, architecture)
    ahead = []
    real = Step._learn_ahead
    monkeypatch.setattr(Step, "_may_learn_ahead", lambda self: True)
    monkeypatch.setattr(Step, "_learn_ahead", lambda self, *given: ahead.append(1) or real(self, *given))
    assert_same(ended("cpu", MCDAL, architecture), ordinary)
    assert len(ahead) == 22, "all steps but the first, and the one after it"
    assert_same(ended("cpu", MCDAL, architecture, killed=(tmp_path / "state", [5, 6, 17])), ordinary)
    assert len(ahead) > 22


class Counting(ResNet):
    """A network that counts something in a buffer of its own."""

    def build(self, *given):
        model = super().build(*given)
        model.register_buffer("seen", torch.zeros(()))
        return model


@pytest.mark.parametrize(
    ("strategy", "architecture", "may"),
    [
        (MCDAL, ResNet(10, 8), True),
        (Random, ResNet(10, 8), False),
        (lambda: MCDAL(published=True), ResNet(10, 8), False),
        (MCDAL, Counting(10, 8), False),
    ],
    ids=["mcdal", "no step", "changes the task model", "a buffer of its own"],
)
def test_who_may_learn_ahead(monkeypatch, strategy, architecture, may):
    """Only where the strategy's step and the task model's pass touch nothing of each other."""
    said = []
    real = Step._may_learn_ahead

    def as_on_cuda(self):
        self._replays = True
        said.append(real(self))
        self._replays = False
        return False

    monkeypatch.setattr(Step, "_may_learn_ahead", as_on_cuda)
    ended("cpu", strategy, architecture)
    assert said == [may]


@CUDA
@pytest.mark.parametrize(
    "architecture",
    [ResNet(10, 8), Fake(), FakeDense(dropout=0.0), FakeDense()],
    ids=["resnet", "dropout", "scenes", "scenes and dropout"],
)
@pytest.mark.parametrize("strategy", [Random, MCDAL])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_replayed_training_is_the_ordinary_one(strategy, architecture, compiled, tmp_path):
    ordinary = ended("cuda", strategy, architecture, compiled=compiled)
    assert_same(ended("cuda", strategy, architecture, replay=True, compiled=compiled), ordinary)
    killed = tmp_path / "state", [5, 6, 17]
    assert_same(ended("cuda", strategy, architecture, True, killed, compiled), ordinary)


@CUDA
def test_random_numbers_on_the_device_are_noticed(monkeypatch):
    """Two passes in one recording would share a stream of random numbers: a model with dropout takes its steps in turn."""
    ahead = []
    real = Step._learn_ahead
    monkeypatch.setattr(Step, "_learn_ahead", lambda self, *given: ahead.append(1) or real(self, *given))
    ended("cuda", MCDAL, Fake(), replay=True)
    assert not ahead
    ended("cuda", MCDAL, ResNet(10, 8), replay=True)
    assert ahead
