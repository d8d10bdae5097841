"""The batched augmentation against plain loops and against Pillow, image by image."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mcdal.augment import Augment, normalize
from mcdal.errors import ConfigError

H, W, B = 16, 20, 64


def images(b: int = B, h: int = H, w: int = W, channels: int = 3) -> Tensor:
    """No pixel is 0, so that black is always padding."""
    pixels = torch.randint(1, 256, (b, h, w, channels), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    return pixels.permute(0, 3, 1, 2)


def draws(augment: Augment, seed: int, b: int = B) -> tuple[list[list[int]], list[bool], list[float]]:
    """What `augment` draws after this seed: offsets, flips, degrees. Part of the promise: a run can be repeated."""
    torch.manual_seed(seed)
    offsets = torch.randint(-augment.crop_padding, augment.crop_padding + 1, (b, 2)).tolist()
    flips = [u < 0.5 and augment.flip for u in torch.rand(b).tolist()]
    degrees = ((2 * torch.rand(b, dtype=torch.float64) - 1) * augment.rotation).tolist()
    return offsets, flips, degrees


def naive(image: Tensor, offset: list[int], flip: bool, degrees: float) -> Tensor:
    """One image (c, h, w), pixel by pixel: crop, then flip, then rotate counter-clockwise, nearest."""
    _, h, w = image.shape
    cropped, turned = torch.zeros_like(image), torch.zeros_like(image)
    for i in range(h):
        for j in range(w):
            y, x = i + offset[0], j + offset[1]
            if 0 <= y < h and 0 <= x < w:
                cropped[:, i, j] = image[:, y, x]
    if flip:
        cropped = cropped.flip(2)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    for i in range(h):
        for j in range(w):
            right, down = j + 0.5 - w / 2, i + 0.5 - h / 2
            y, x = math.floor(sin * right + cos * down + h / 2), math.floor(cos * right - sin * down + w / 2)
            if 0 <= y < h and 0 <= x < w:
                turned[:, i, j] = cropped[:, y, x]
    return turned


def pillow(image: Tensor, padding: int, offset: list[int], flip: bool, degrees: float) -> Tensor:
    """As torchvision does with Pillow images."""
    _, h, w = image.shape
    padded = ImageOps.expand(Image.fromarray(image.permute(1, 2, 0).numpy().copy()), padding, 0)
    left, top = padding + offset[1], padding + offset[0]
    cropped = padded.crop((left, top, left + w, top + h))
    turned = (ImageOps.mirror(cropped) if flip else cropped).rotate(degrees, Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(turned)).permute(2, 0, 1)


SETTINGS = [
    pytest.param(Augment(3, flip=False, rotation=0.0), id="crop"),
    pytest.param(Augment(0, flip=True, rotation=0.0), id="flip"),
    pytest.param(Augment(0, flip=False, rotation=30.0), id="rotation"),
    pytest.param(Augment(), id="all"),
]


def test_nothing_on_changes_nothing() -> None:
    x = images()
    assert torch.equal(Augment(0, flip=False, rotation=0.0)(x), x)


@pytest.mark.parametrize("augment", SETTINGS)
def test_the_pixels_of_plain_loops(augment: Augment) -> None:
    x = images(b=6)
    parameters = draws(augment, seed=1, b=6)
    torch.manual_seed(1)
    expected = torch.stack([naive(*arguments) for arguments in zip(x, *parameters, strict=True)])
    # an index rounded to 1/65536 of a pixel may fall on the other side of a border: seldom
    assert (augment(x) != expected).float().mean() < (0.002 if augment.rotation else 1e-9)


@pytest.mark.parametrize("augment", SETTINGS)
def test_exactly_the_pixels_of_pillow(augment: Augment) -> None:
    x = images()
    parameters = zip(*draws(augment, seed=2), strict=True)
    torch.manual_seed(2)
    expected = torch.stack([pillow(i, augment.crop_padding, *p) for i, p in zip(x, parameters, strict=True)])
    assert torch.equal(augment(x), expected)


def test_the_seed_decides_and_images_differ() -> None:
    x = images(b=1).expand(32, -1, -1, -1)
    outcomes = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        outcomes.append(Augment()(x))
    assert torch.equal(outcomes[0], outcomes[1]) and not torch.equal(outcomes[0], outcomes[2])
    assert len({image.numpy().tobytes() for image in outcomes[0]}) > 28


def test_switching_one_off_leaves_the_others_as_they_were() -> None:
    x = images()
    torch.manual_seed(0)
    flipped = Augment(0, flip=True, rotation=0.0)(x)
    torch.manual_seed(0)
    cropped = Augment(0, flip=False, rotation=0.0)(x)
    after_flip = torch.rand(1)
    torch.manual_seed(0)
    Augment(4, flip=True, rotation=15.0)(x)
    after_crop = torch.rand(1)
    assert torch.equal(after_flip, after_crop) and not torch.equal(flipped, cropped)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_dtype_and_layout_are_kept(dtype: torch.dtype, channels: int) -> None:
    x = images(channels=channels).to(dtype)
    for layout in (torch.channels_last, torch.contiguous_format):
        torch.manual_seed(6)
        y = Augment()(x.contiguous(memory_format=layout))
        torch.manual_seed(6)
        assert torch.equal(y.to(torch.uint8), Augment()(images(channels=channels)))
        assert y.dtype == dtype and y.is_contiguous(memory_format=layout)


def test_all_offsets_and_both_flips_come_up() -> None:
    offsets, flips, degrees = draws(Augment(), seed=0, b=2000)
    assert {y for y, _ in offsets} == {x for _, x in offsets} == set(range(-4, 5))
    assert 0.45 < sum(flips) / 2000 < 0.55
    assert min(degrees) < -14.5 and max(degrees) > 14.5 and abs(sum(degrees) / 2000) < 0.6


def test_settings_are_checked() -> None:
    for wrong, name in [({"crop_padding": -1}, "crop_padding"), ({"rotation": -1.0}, "rotation")]:
        with pytest.raises(ConfigError, match=name):
            Augment(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_normalize(layout: torch.memory_format) -> None:
    x = images().contiguous(memory_format=layout)
    mean, std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    expected = (x.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    y = normalize(x, mean, std)
    assert y.dtype == torch.float32 and y.is_contiguous(memory_format=layout)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)


def test_normalize_leaves_floats_and_refuses_other_channels() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert normalize(x, (0.5,) * 3, (1.0,) * 3) is x
    with pytest.raises(ConfigError, match="3 channels with 1 means"):
        normalize(images(), (0.5,), (0.5,))
