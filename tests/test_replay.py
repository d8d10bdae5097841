"""Replayed steps are the ordinary ones, bit for bit. Only a CUDA device can tell."""

from dataclasses import replace

import pytest
import torch

from mcdal.models.resnet import ResNet
from mcdal.strategies.mcdal import MCDAL
from mcdal.strategies.random import Random
from mcdal.testing import fake_pool, fake_training
from mcdal.training import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="steps are replayed on CUDA only")


@pytest.mark.parametrize("strategy", [Random, MCDAL])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_replayed_training_is_the_ordinary_one(strategy, compiled):
    pool = fake_pool()
    labels = {id: pool.truth()[id] for id in pool.images.ids[:20]}
    ended = []
    for replay in (False, True):
        training = replace(fake_training(), epochs=2, steps_per_epoch=12, compile=compiled, replay=replay)
        torch.manual_seed(0)
        model, beside = ResNet(10, 8).build(len(pool.classes), *pool.shape), strategy()
        trained = train(model, pool, labels, beside, training, numerics=training.numerics("cuda"), seed=3)
        own = [
            tensor
            for part in beside.state().values()
            if isinstance(part, torch.nn.Module)
            for tensor in part.state_dict().values()
        ]
        ended.append((trained.metrics, [*model.state_dict().values(), *own]))
    assert ended[0][0] == ended[1][0]
    assert all(torch.equal(a, b) for a, b in zip(ended[0][1], ended[1][1], strict=True))
