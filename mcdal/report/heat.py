"""Heat over pictures: where in an image a strategy saw what it picked by."""

import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from PIL import Image

from mcdal.pictures import Heat
from mcdal.report.words import rounded

COLOURS = "inferno"
"""Darker is less, on screen, in grey print and for people with any colour vision."""
GREY = 128
"""The picture under the scale's bar: a middling one."""


@dataclass(frozen=True)
class Scale:
    """What the colours of a round mean: the ends in words, and a bar between them."""

    low: str
    high: str
    bar: Image.Image


def overlay(picture: Image.Image, heat: Image.Image) -> Image.Image:
    """The picture in grey with the heat over it; all the more of the picture where there is little heat."""
    share = np.asarray(heat.convert("L").resize(picture.size, Image.Resampling.BILINEAR), dtype=np.float64) / 255
    return Image.fromarray(_mixed(np.asarray(picture.convert("L"), dtype=np.float64), share))


def scale(heat: Heat) -> Scale:
    """One for all pictures of a round."""
    share = np.linspace(0, 1, 128)[None].repeat(8, 0)
    bar = Image.fromarray(_mixed(np.full_like(share, GREY), share))
    return Scale(rounded(heat.low), rounded(heat.high), bar)


def opened(png: bytes) -> Image.Image:
    """A whole picture, or the error of what is none."""
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


def _mixed(grey: Float[np.ndarray, "h w"], share: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    color = colormaps[COLOURS](share)[..., :3] * 255
    weight = (0.45 + 0.4 * share)[..., None]
    mixed: UInt8[np.ndarray, "h w 3"] = np.rint(weight * color + (1 - weight) * grey[..., None]).astype(np.uint8)
    return mixed
