"""Scale, crop and flip of scenes: masks go where their images go, and what comes from outside is void."""

import numpy as np
import pytest
import torch
from PIL import Image

from mcdal.augment import Augment
from mcdal.errors import ConfigError
from mcdal.scenes import SceneAugment
from mcdal.values import VOID


def drawn(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def test_nothing_drawn_changes_nothing():
    torch.manual_seed(0)
    x = torch.randint(0, 256, (3, 3, 9, 12), dtype=torch.uint8)
    y = torch.randint(0, 5, (3, 9, 12), dtype=torch.uint8)
    still = SceneAugment(scale=(1.0, 1.0), flip=False)
    d = still.draw(x)
    assert torch.equal(still.moved(x, d), x)
    assert torch.equal(still.moved_masks(y, d), y)
    assert not still.changes
    assert SceneAugment().changes


def test_a_crop_is_a_part_of_the_image_and_a_flip_its_mirror():
    torch.manual_seed(0)
    x = torch.randint(0, 256, (2, 3, 9, 12), dtype=torch.uint8)
    y = torch.randint(0, 5, (2, 9, 12), dtype=torch.uint8)
    crop = SceneAugment(scale=(1.0, 1.0), crop=(4, 6))
    d = drawn([1, 0, 1, 0], [1, 1, 0, 1])
    expected = torch.stack([x[0, :, :4, 6:], x[1, :, 5:, :6].flip(2)])
    assert torch.equal(crop.moved(x, d), expected)
    assert torch.equal(crop.moved_masks(y, d), torch.stack([y[0, :4, 6:], y[1, 5:, :6].flip(1)]))


def test_a_larger_crop_is_black_and_void_outside():
    x, y = torch.full((1, 3, 4, 4), 200, dtype=torch.uint8), torch.full((1, 4, 4), 3, dtype=torch.uint8)
    crop = SceneAugment(scale=(1.0, 1.0), crop=(6, 8), flip=False)
    d = drawn([1, 0, 1, 0])
    moved, mask = crop.moved(x, d), crop.moved_masks(y, d)
    inside = torch.zeros(6, 8, dtype=torch.bool)
    inside[:4, 4:] = True
    assert torch.equal(moved[0, 0] == 200, inside)
    assert (moved[0, 0][~inside] == 0).all()
    assert torch.equal(mask[0], torch.where(inside, 3, VOID).to(torch.uint8))


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_scaling_is_pillows(factor):
    """Of a smooth picture, away from the border, where Pillow has other rules."""
    rows, columns = np.mgrid[0:32, 0:48]
    picture = (100 + 60 * np.sin(rows / 9) + 50 * np.cos(columns / 11)).round().astype(np.uint8)
    size = round(48 * factor), round(32 * factor)
    expected = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR)).astype(int)
    scaled = SceneAugment(scale=(factor, factor), crop=size[::-1], flip=False)
    x = torch.from_numpy(picture)[None, None]
    found = scaled.moved(x, drawn([factor, 0.3, 0.7, 0]))[0, 0].numpy().astype(int)
    assert np.abs(found - expected)[2:-2, 2:-2].max() <= 3


def test_each_image_has_its_own_and_the_seed_decides():
    x = torch.zeros(64, 3, 8, 8, dtype=torch.uint8)
    augment = SceneAugment(scale=(0.5, 2.0))
    torch.manual_seed(1)
    one = augment.draw(x)
    torch.manual_seed(1)
    assert torch.equal(one, augment.draw(x))
    assert ((one[:, 0] >= 0.5) & (one[:, 0] <= 2)).all()
    assert one[:, 0].unique().numel() == 64
    assert set(one[:, 3].tolist()) == {0.0, 1.0}


def test_masks_stay_with_their_images():
    """The brightness of a pixel is its class: after any change it still is, but at borders between classes."""
    torch.manual_seed(2)
    y = torch.randint(0, 5, (16, 4, 4), dtype=torch.uint8).repeat_interleave(8, 1).repeat_interleave(8, 2)
    x = (y * 40 + 20)[:, None]
    for augment in (SceneAugment(), Augment(crop_padding=4, rotation=20.0)):
        d = augment.draw(x)
        moved, masks = augment.moved(x, d)[:, 0], augment.moved_masks(y, d)
        known = masks != VOID
        agree = (moved[known].int() - (masks[known].int() * 40 + 20)).abs() <= 1
        assert agree.float().mean() > 0.8, "borders are blurred by scaling, no more"
        assert (moved[~known] <= 100).float().mean() > 0.5


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"scale": (2.0, 1.0)}, "scale is"), ({"scale": (0.0, 1.0)}, "scale is"), ({"crop": (0, 5)}, "crop is")],
)
def test_odd_fields_are_refused(fields, said):
    with pytest.raises(ConfigError, match=said):
        SceneAugment(**fields)
