"""Between what people draw in Label Studio (brushes, polygons, boxes) and masks: a class index a pixel, 255 for none."""

import math
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from mcdal.errors import CampaignError
from mcdal.label_studio.brush import decode, encode
from mcdal.label_studio.shapes import Control, Kind
from mcdal.pool.decode import MAX_PIXELS
from mcdal.values import VOID

DRAWN: tuple[Kind, ...] = ("brushlabels", "polygonlabels", "rectanglelabels")
LONGEST_SIDE = 65_535
"""Of an image, as JPEG has it: what an annotation claims is believed no further."""
FARTHEST = 1e4
"""Percent of the image that a corner may lie away from it."""


def to_mask(results: Sequence[Any], classes: Sequence[str], outside: int = VOID) -> UInt8[np.ndarray, "h w"] | None:
    """What the results of one annotation draw; None where they draw nothing. outside: what pixels are that nobody drew.

    Later shapes lie above earlier ones. CampaignError names a class that is not there, a shape that cannot be drawn, an image
    that was turned, and sizes that differ.
    """
    drawn = [r for r in results if isinstance(r, dict) and r.get("type") in DRAWN]
    if not drawn:
        return None
    size = _size(drawn[0])
    mask = np.full(size, outside, dtype=np.uint8)
    for result in drawn:
        if _size(result) != size:
            raise CampaignError("one annotation has images of two sizes: label one image a task")
        number = _class(result, classes)
        mask[_shape(result, size)] = number
    return mask


def brushes(mask: UInt8[np.ndarray, "h w"], classes: Sequence[str], control: Control) -> list[dict[str, Any]]:
    """A mask as brush results, one for each class that it shows; void is drawn by none."""
    height, width = mask.shape
    made = []
    for number in np.unique(mask).tolist():
        if number == VOID:
            continue
        if number >= len(classes):
            raise CampaignError(f"the mask has the number {number}, and there are {len(classes)} classes")
        value = {
            "format": "rle", "rle": encode(mask == number), "brushlabels": [control.value_of(classes[number])],
        }  # fmt: skip
        made.append(
            {
                "id": uuid.uuid4().hex[:10], "type": "brushlabels", "from_name": control.name, "to_name": control.to_name,
                "original_width": width, "original_height": height, "image_rotation": 0, "value": value,
            }
        )  # fmt: skip
    return made


def filled(points: Float[np.ndarray, "n 2"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Pixels whose middle lies in a polygon. points: x and y in pixels. Where it crosses itself, even parts are outside."""
    height, width = size
    inside = np.zeros(size, dtype=bool)
    x, y = points.T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    first, last = math.floor(max(0.0, float(y.min()))), math.ceil(min(float(height), float(y.max())))
    for row in range(first, last):
        middle = row + 0.5
        crosses = (y <= middle) != (next_y <= middle)
        slope = (next_x[crosses] - x[crosses]) / (next_y[crosses] - y[crosses])
        at = np.sort(x[crosses] + (middle - y[crosses]) * slope)
        ends = np.ceil(at - 0.5).clip(0, width).astype(int)
        for left, right in ends.reshape(-1, 2):
            inside[row, left:right] = True
    return inside


def _shape(result: dict[str, Any], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    value, kind = result.get("value"), result["type"]
    try:
        assert isinstance(value, dict)
        if kind == "brushlabels":
            return decode(value["rle"], size)
        return filled(_corners(value, size) if kind == "rectanglelabels" else _points(value, size), size)
    except (KeyError, TypeError, ValueError, AssertionError, OverflowError) as error:
        if isinstance(error, CampaignError):
            raise
        raise CampaignError(f"a {kind} of the annotation cannot be drawn: {error!r}") from error


def _points(value: dict[str, Any], size: tuple[int, int]) -> Float[np.ndarray, "n 2"]:
    """In percent of the image there, in pixels here."""
    points = np.array(value["points"], dtype=np.float64).reshape(-1, 2)
    if len(points) < 3 or not np.isfinite(points).all():
        raise CampaignError(f"a polygon of {len(points)} points has no inside")
    scaled: Float[np.ndarray, "n 2"] = _near(points) * (size[1] / 100, size[0] / 100)
    return scaled


def _corners(value: dict[str, Any], size: tuple[int, int]) -> Float[np.ndarray, "n 2"]:
    """Of a box, which is turned about its upper left corner, clockwise, in degrees."""
    height, width = size
    given = _near(np.array([float(value[k]) for k in ("x", "y", "width", "height")]))
    x, y, w, h = given / 100 * (width, height, width, height)
    angle = math.radians(float(value.get("rotation") or 0))
    right, down = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    corner = np.array([x, y])
    return np.stack([corner, corner + w * right, corner + w * right + h * down, corner + h * down])


def _near(percent: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """CampaignError for what no page draws, and no arithmetic bears."""
    if not (np.abs(percent) <= FARTHEST).all():
        raise CampaignError("a shape lies far outside its image: delete it")
    return percent


def _size(result: dict[str, Any]) -> tuple[int, int]:
    height, width = result.get("original_height"), result.get("original_width")
    if (
        type(height) is not int
        or type(width) is not int
        or not (1 <= height <= LONGEST_SIDE and 1 <= width <= LONGEST_SIDE)
        or height * width > MAX_PIXELS
    ):
        raise CampaignError(f"a shape says that its image has {width}x{height} pixels")
    if result.get("image_rotation"):
        raise CampaignError("the image was turned in Label Studio: turn it back, a mask lies as the file does")
    return height, width


def _class(result: dict[str, Any], classes: Sequence[str]) -> int:
    value = result.get("value")
    names = value.get(result["type"]) if isinstance(value, dict) else None
    if not isinstance(names, list) or len(names) != 1:
        many = len(names) if isinstance(names, list) else "no"
        raise CampaignError(f"a {result['type']} has {many} labels, and a pixel has one class")
    if names[0] not in classes:
        raise CampaignError(f"the label {names[0]!r} is none of the classes {', '.join(classes)}")
    return list(classes).index(names[0])
