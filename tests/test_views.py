"""SimCLR's augmentation: what it may show of an image, and that the seed decides."""

import pytest
import torch

from mcdal.views import Views


def seen(views, x, seed=0):
    torch.manual_seed(seed)
    return views(x)


def test_nothing_is_changed_when_all_is_off():
    x = torch.randn(7, 1, 9, 12)
    torch.testing.assert_close(seen(Views(crop=1.0, flip=False, jitter=0.0), x), x, atol=1e-5, rtol=0)


def test_flips_half_of_the_images():
    x = torch.randn(200, 1, 6, 6)
    y = seen(Views(crop=1.0, flip=True, jitter=0.0), x)
    as_it_was = (y - x).abs().amax((1, 2, 3)) < 1e-5
    mirrored = (y - x.flip(3)).abs().amax((1, 2, 3)) < 1e-5
    assert (as_it_was ^ mirrored).all() and 70 < mirrored.sum() < 130


@pytest.mark.parametrize("crop", [0.2, 0.8])
def test_crops_show_an_upright_part_of_the_image_of_the_promised_area_and_ratio(crop):
    n = 64  # each pixel says where it is, from 0 to 1
    place = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    image = torch.stack([place.expand(n, n), place[:, None].expand(n, n), torch.zeros(n, n)])
    torch.manual_seed(0)
    y = Views(crop, flip=False, jitter=0.0)._cropped(image.expand(300, 3, n, n).contiguous())
    inner = slice(5, -5)  # the border repeats the outermost pixel
    column, row = y[:, 0, inner, inner], y[:, 1, inner, inner]
    width, height = n * column.diff(dim=2), n * row.diff(dim=1)
    for side in (width, height):
        assert torch.allclose(side, side[:, :1, :1], atol=1e-3)
    width, height = width[:, 0, 0], height[:, 0, 0]
    area, ratio = width * height, width / height
    assert (area > crop - 1e-3).all() and (area < 1 + 1e-3).all() and area.min() < crop + 0.05 and area.max() > 0.95
    assert (ratio < 4 / 3 + 1e-3).all() and (ratio > 3 / 4 - 1e-3).all()
    assert y[:, :2].min() > 0 and y[:, :2].max() < 1
    assert column.mean((1, 2)).std() > 0.01 and row.mean((1, 2)).std() > 0.01  # not always the middle


def test_colours_move_within_their_bounds():
    x = torch.randn(400, 1, 5, 5)
    y = seen(Views(crop=1.0, flip=False, jitter=0.4), x)
    spread = y.std((1, 2, 3)) / x.std((1, 2, 3))
    shift = y.mean((1, 2, 3)) - x.mean((1, 2, 3))
    assert spread.min() > 0.6 - 1e-3 and spread.max() < 1.4 + 1e-3 and shift.abs().max() < 0.4 + 1e-3
    untouched = ((spread - 1).abs() < 1e-4) & (shift.abs() < 1e-4)
    assert 0.12 < untouched.float().mean() < 0.28


def test_some_colour_images_become_grey():
    y = seen(Views(crop=1.0, flip=False, jitter=0.0), torch.randn(400, 3, 5, 5))
    grey = (y - y.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-5
    assert 0.12 < grey.float().mean() < 0.28


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_seed_decides_and_each_image_has_its_own(channels):
    views = Views(crop=0.2, flip=True, jitter=0.4)
    x = torch.randn(1, channels, 8, 8).expand(6, -1, -1, -1).contiguous()
    y = seen(views, x)
    assert y.shape == x.shape and y.dtype == x.dtype
    assert torch.equal(seen(views, x), y) and not torch.equal(seen(views, x, seed=1), y)
    assert len({tuple(image.flatten().tolist()) for image in y}) == 6
