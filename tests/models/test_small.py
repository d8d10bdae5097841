"""The small network learns digits in seconds."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from mcdal.errors import ConfigError
from mcdal.models.small import SmallConv


def test_learns_digits() -> None:
    pixels, digits = load_digits(return_X_y=True)
    x, y = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8) / 16, torch.from_numpy(digits)
    torch.manual_seed(0)
    order = torch.randperm(len(x))
    train, test = order[:1200], order[1200:]
    model = SmallConv(width=16).build(10, 1, (8, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(120):
        batch = train[torch.randint(len(train), (64,))]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]).logits, y[batch]).backward()
        optimizer.step()
    accuracy = (model.eval()(x[test]).logits.argmax(1) == y[test]).float().mean()
    assert accuracy > 0.95


def test_larger_images_are_halved_once_more() -> None:
    assert [s.shape[2] for s in SmallConv(4).build(10, 1, (8, 8))(torch.randn(2, 1, 8, 8)).stages] == [8, 4, 2]
    assert [s.shape[2] for s in SmallConv(4).build(10, 1, (28, 28))(torch.randn(2, 1, 28, 28)).stages] == [14, 7, 4]


def test_width_is_checked() -> None:
    with pytest.raises(ConfigError, match="width is 0"):
        SmallConv(width=0)
