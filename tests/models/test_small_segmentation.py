"""The small network for segmentation: sizes, and that it learns."""

import pytest
import torch
from torch import nn

from mcdal.errors import ConfigError
from mcdal.models.base import count_parameters
from mcdal.models.small_segmentation import SmallSegmentation


@pytest.mark.parametrize("size", [(64, 96), (45, 61), (180, 240)])
def test_strides_are_2_to_16_and_features_at_4(size: tuple[int, int]) -> None:
    with torch.no_grad():
        output = SmallSegmentation(width=4).build(3, 3, size)(torch.randn(2, 3, *size))

    def at(stride: int) -> tuple[int, int]:
        return -(-size[0] // stride), -(-size[1] // stride)

    assert [tuple(s.shape[1:]) for s in output.stages] == [(4 * 2**i, *at(2 ** (i + 1))) for i in range(4)]
    assert output.features.shape == (2, 8, *at(4)) and output.logits.shape == (2, 3, *size)


def test_number_of_parameters() -> None:
    assert count_parameters(SmallSegmentation().build(11, 3, (180, 240))) == 1_412_291
    assert count_parameters(SmallSegmentation().build(11, 3, (180, 240)).head) == 48 * 11 + 11


def test_learns_where_bright_squares_are() -> None:
    torch.manual_seed(0)
    x, y = 0.3 * torch.randn(8, 3, 40, 50), torch.zeros(8, 40, 50, dtype=torch.long)
    for i in range(8):
        top, left = 3 * i + 1, 4 * i + 2
        x[i, i % 2, top : top + 12, left : left + 12] += 2
        y[i, top : top + 12, left : left + 12] = 1 + i % 2
    model = SmallSegmentation(width=8).build(3, 3, (40, 50))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(40):
        loss = nn.functional.cross_entropy(model(x).logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.15 < 0.8 < losses[0]
    right = model.eval()(x).logits.argmax(1) == y
    assert right.float().mean() > 0.95


def test_width_is_checked() -> None:
    with pytest.raises(ConfigError, match="width is 0"):
        SmallSegmentation(width=0)
