"""The enlargement that ends networks for segmentation: torch's own, by products; and what size it makes."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mcdal.models.base import Model, apply_head
from mcdal.models.dense import PixelHead, Upsampling, enlarge
from mcdal.networks.heads import PixelHeads, SeparateHeads, fresh_heads
from mcdal.values import Output


def maps(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7), dtype=dtype)


@pytest.mark.parametrize("size", [(40, 56), (37, 51), (5, 7), (3, 4)])
def test_enlarges_as_interpolate_does(size: tuple[int, int]) -> None:
    x = maps(2, 3, 5, 7, dtype=torch.float64).requires_grad_()
    wanted = F.interpolate(x, size=size, mode="bilinear")
    torch.testing.assert_close(enlarge(x, size), wanted)
    g = torch.randn_like(wanted)
    torch.testing.assert_close(torch.autograd.grad(enlarge(x, size), x, g), torch.autograd.grad(wanted, x, g))


def bilinear(classes: int) -> nn.ConvTranspose2d:
    """DRN's `up`, with the weights that its authors fill in."""
    up = nn.ConvTranspose2d(classes, classes, 16, stride=8, padding=4, groups=classes, bias=False)
    for i in range(16):
        for j in range(16):
            up.weight.data[:, 0, i, j] = (1 - abs(i / 8 - 15 / 16)) * (1 - abs(j / 8 - 15 / 16))
    return up.requires_grad_(False)


def test_the_published_one_is_drns_transposed_convolution() -> None:
    x = maps(2, 3, 5, 7)
    torch.testing.assert_close(Upsampling(8, (40, 56), published=True)(x), bilinear(3)(x))
    cut = Upsampling(8, (37, 50), published=True)(x)
    torch.testing.assert_close(cut, bilinear(3)(x)[:, :, :37, :50])


def test_a_side_that_fits_is_of_the_size_and_others_are_whole_multiples() -> None:
    up = Upsampling(8, (37, 56))
    sizes = {(5, 7): (37, 56), (4, 7): (32, 56), (5, 3): (37, 24), (11, 12): (88, 96)}
    assert {places: tuple(up(maps(1, 1, *places)).shape[2:]) for places in sizes} == sizes
    assert up(maps(1, 1, 5, 7), (35, 50)).shape == (1, 1, 35, 50)


def test_it_learns_nothing_and_keeps_nothing() -> None:
    assert Upsampling(8, (8, 8)).state_dict() == {} and not list(Upsampling(8, (8, 8)).parameters())


def test_the_head_is_in_float32_under_autocast() -> None:
    head = PixelHead(nn.Conv2d(6, 3, 1), Upsampling(4, (18, 20)))
    x = maps(2, 6, 5, 5)
    wanted = F.interpolate(head.seg(x), size=(18, 20), mode="bilinear")
    with torch.autocast("cpu", torch.bfloat16):
        said = head(x)
        assert head(x.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(said, wanted)


class Bare(Model):
    """A head on the image itself."""

    def __init__(self, bias: bool = True):
        super().__init__()
        self.head = PixelHead(nn.Conv2d(6, 3, 1, bias=bias), Upsampling(4, (18, 20)))

    def forward(self, x: Tensor) -> Output:
        return Output(self.head(x), x)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_many_heads_are_one_convolution_and_say_what_each_would(bias: bool, layout: torch.memory_format) -> None:
    model, x = Bare(bias), maps(2, 6, 5, 5).contiguous(memory_format=layout)
    torch.manual_seed(0)
    alone = [model.fresh_head() for _ in range(3)]
    torch.manual_seed(0)
    heads = fresh_heads(model, 3)
    assert isinstance(heads, PixelHeads)
    with torch.autocast("cpu", torch.bfloat16):
        said = heads(x)
    torch.testing.assert_close(said, torch.stack([apply_head(head, x) for head in alone]))
    said.square().sum().backward()
    SeparateHeads(alone)(x).square().sum().backward()
    torch.testing.assert_close(heads.weight.grad, torch.stack([head.seg.weight.grad for head in alone]))


def test_a_head_of_another_kind_stays_separate() -> None:
    class Other(PixelHead):
        pass

    model = Bare()
    model.head = Other(model.head.seg, model.head.up)
    assert isinstance(fresh_heads(model, 2), SeparateHeads)
