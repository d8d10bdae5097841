"""Masks as pictures: a colour for each class, void hatched, and outlines of the places that a round has learned."""

import io

import numpy as np
from jaxtyping import Bool, Shaped, UInt8
from PIL import Image
from scipy import ndimage

from mcdal.values import VOID

Mask = UInt8[np.ndarray, "h w"]
Places = Bool[np.ndarray, "h w"]
Colours = UInt8[np.ndarray, "c 3"]

_HEX = (
    "0071b1 d45d00 009d72 cb78a6 e59e00 55b3e8 c8b700 78004b 0f4b00 00ffc3 3c00a5 963cc3 ffb4ff 786900 c31e69 3c3c5a 7878ff "
    "b4d2b4 962d00 00d25a b4f02d e178ff 785a87 ffa596 ff4b69 1e695a 4b4bd2 879600 007800 ffd278 b4a5ff 00d2c3 5a3c0f 690087"
)
PALETTE = np.array([list(bytes.fromhex(code)) for code in _HEX.split()], dtype=np.uint8)
"""34 colours, each as far as may be from those before it in OKLab, and from white, black and the grey of the hatching.

The first lie a step beside the page's own, which change with its theme, as a mask does not.
"""
HATCH = (133, 139, 147)

SMALLEST, LARGEST = 280, 400
"""Pixels on the longer side of what the page holds: small masks are enlarged, so that outlines are thin."""
SPECK = 0.0008
"""Share of a picture below which a place is too small to be outlined."""


def palette(classes: int) -> Colours:
    """For tasks that bring no colours; they repeat after 34."""
    colours: Colours = np.resize(PALETTE, (classes, 3))
    return colours


def improved(before: Mask, now: Mask, truth: Mask) -> Places:
    """Wrong before, right now. Void has no right and no wrong."""
    better: Places = (before != truth) & (now == truth) & (truth != VOID)
    return better


def right_share(mask: Mask, truth: Mask) -> float | None:
    """Of the labeled pixels; None where there are none."""
    counted = truth != VOID
    return float((mask == truth)[counted].mean()) if counted.any() else None


def coloured(mask: Mask, colours: Colours) -> UInt8[np.ndarray, "h w 4"]:
    """Red, green, blue and opacity. Void and whatever is no class is hatched on nothing, so that the page shows through."""
    h, w = mask.shape
    known = mask < len(colours)
    y, x = np.mgrid[:h, :w]
    shown = np.zeros((h, w, 4), dtype=np.uint8)
    shown[(x + y) % 7 < 2] = (*HATCH, 255)
    shown[known, :3] = colours[mask[known]]
    shown[known, 3] = 255
    return shown


def outlined(picture: UInt8[np.ndarray, "h w 4"], places: Places) -> UInt8[np.ndarray, "h w 4"]:
    """White lines with black edges around the places, which show on any colour and on paper."""
    picture = picture.copy()
    inner = places & ~ndimage.binary_erosion(places, iterations=2, border_value=0)
    outer = ndimage.binary_dilation(places, iterations=1) & ~places
    deeper = places & ~inner
    edge = outer | (deeper & ndimage.binary_dilation(inner, iterations=1))
    picture[edge] = (0, 0, 0, 255)
    picture[inner] = (255, 255, 255, 255)
    return picture


def worth_outlining(places: Places) -> Places:
    """Without specks and the thin seams along borders, which move a little in every training."""
    solid = ndimage.binary_opening(places, np.ones((5, 5), dtype=bool))
    solid = ndimage.binary_propagation(solid, mask=places & ndimage.binary_dilation(solid, iterations=3))
    parts, count = ndimage.label(solid)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    large = sizes >= SPECK * places.size
    large[0] = False
    kept: Places = large[parts]
    return kept


def resized(mask: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "i j"]:
    """For the page, by whole pixels where it grows and by the nearest where it shrinks."""
    h, w = mask.shape
    times = max(1, -(-SMALLEST // max(h, w)))
    large = mask.repeat(times, 0).repeat(times, 1)
    shrink = max(large.shape) / LARGEST
    if shrink <= 1:
        return large
    rows, columns = (np.minimum((np.arange(round(n / shrink)) + 0.5) * shrink, n - 1).astype(int) for n in large.shape)
    return large[np.ix_(rows, columns)]


def read_classes(png: bytes) -> tuple[Mask, Colours | None]:
    """The class indices of a kept mask, and the colours that it was kept with. ValueError where it is no such picture."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        if image.mode not in ("L", "P"):
            raise ValueError(f"a mask of mode {image.mode}")
        given = image.getpalette() if image.mode == "P" else None
        colours = None if given is None else np.array(given, dtype=np.uint8).reshape(-1, 3)
        return np.array(image, dtype=np.uint8), colours
