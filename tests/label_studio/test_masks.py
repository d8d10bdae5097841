"""Brushes, polygons and boxes as masks, and masks as brushes."""

import math

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from mcdal.errors import CampaignError
from mcdal.label_studio.brush import encode
from mcdal.label_studio.masks import brushes, filled, to_mask
from mcdal.label_studio.shapes import masks_interface, read_interface

CLASSES = ["road", "sky"]


def result(kind, label, h=40, w=50, **value):
    labels = label if isinstance(label, list) else [label]
    sized = {"original_width": w, "original_height": h, "image_rotation": 0}
    return {"type": kind, "from_name": "x", "to_name": "image", **sized, "value": {**value, kind: labels}}


def box(label, x, y, width, height, rotation=0, **size):
    return result("rectanglelabels", label, x=x, y=y, width=width, height=height, rotation=rotation, **size)


def test_a_box_in_percent_covers_its_pixels():
    mask = to_mask([box("sky", 10, 25, 20, 50)], CLASSES)
    wanted = np.full((40, 50), 255)
    wanted[10:30, 5:15] = 1
    assert mask.dtype == np.uint8 and (mask == wanted).all()


def test_a_turned_box_turns_about_its_upper_left_corner():
    mask = to_mask([box("sky", 50, 50, 20, 25, rotation=90)], CLASSES, outside=0)
    wanted = np.zeros((40, 50))
    wanted[20:30, 15:25] = 1  # 10 wide and 10 high, now to the left of its corner
    assert (mask == wanted).all()


def test_polygons_are_filled_where_pixel_middles_lie_inside():
    draw = np.random.default_rng(0)
    for _ in range(20):
        points = draw.uniform(-10, 70, (draw.integers(3, 9), 2))
        angle = np.argsort(np.arctan2(*(points - points.mean(0)).T))  # so that it does not cross itself
        points = points[angle]
        grid = np.stack(np.meshgrid(np.arange(60) + 0.5, np.arange(45) + 0.5), axis=2)
        wanted = Outline(points).contains_points(grid.reshape(-1, 2)).reshape(45, 60)
        assert (filled(points, (45, 60)) == wanted).all()


def test_a_circle_has_the_area_of_a_circle():
    turn = np.linspace(0, 2 * math.pi, 200, endpoint=False)
    points = np.stack([50 + 30 * np.cos(turn), 50 + 30 * np.sin(turn)], axis=1)
    assert filled(points, (100, 100)).sum() == pytest.approx(math.pi * 900, rel=0.005)


def test_later_shapes_lie_above_earlier_ones_and_void_is_outside():
    polygon = result("polygonlabels", "road", points=[[0, 0], [100, 0], [100, 100], [0, 100]], closed=True)
    brush = np.zeros((40, 50), dtype=bool)
    brush[5:7] = True
    drawn = result("brushlabels", "sky", format="rle", rle=encode(brush))
    assert np.unique(to_mask([polygon, drawn], CLASSES), return_counts=True)[1].tolist() == [1900, 100]
    assert set(np.unique(to_mask([drawn, polygon], CLASSES)).tolist()) == {0}
    assert set(np.unique(to_mask([drawn], CLASSES)).tolist()) == {1, 255}
    choices = {"type": "choices", "from_name": "c", "value": {"choices": ["night"]}}
    assert to_mask([choices], CLASSES) is None and to_mask([], CLASSES) is None and to_mask([None, 3], CLASSES) is None


def test_masks_as_brushes_and_back():
    control = read_interface(masks_interface(CLASSES, ["brushlabels"])).controls[0]
    mask = np.random.default_rng(1).choice(np.array([0, 1, 255], dtype=np.uint8), (33, 21))
    made = brushes(mask, CLASSES, control)
    assert [r["value"]["brushlabels"] for r in made] == [["road"], ["sky"]] and len({r["id"] for r in made}) == 2
    assert (to_mask(made, CLASSES) == mask).all()
    with pytest.raises(CampaignError, match="the number 2, and there are 2 classes"):
        brushes(np.full((2, 2), 2, dtype=np.uint8), CLASSES, control)


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([box("wolf", 0, 0, 1, 1)], "'wolf' is none of the classes road, sky"),
        ([box(["road", "sky"], 0, 0, 1, 1)], "has 2 labels"),
        ([box("sky", 0, 0, 1, 1), box("sky", 0, 0, 1, 1, w=51)], "two sizes"),
        ([box("sky", 0, 0, 1, 1, w=0)], "0x40 pixels"),
        ([box("sky", 0, 0, 1, 1, w=10**9)], "pixels"),
        ([box("sky", 0, 0, 1, 1, w=65_536, h=1)], "65536x1 pixels"),
        ([box("sky", 0, 0, 1, 1, w=14_000, h=14_000)], "pixels"),
        ([box("sky", 0, 0, 1, 1, w=True)], "pixels"),
        ([box("sky", 0, 0, 1, 1) | {"value": None}], "has no labels"),
        ([box("sky", 0, 0, 1, 1) | {"value": {"rectanglelabels": 3}}], "has no labels"),
        ([box("sky", 0, 1e308, 1, 1)], "far outside its image"),
        ([result("polygonlabels", "sky", points=[[0, 0], [1, 1], [-1e308, 3]])], "far outside its image"),
        ([result("brushlabels", "sky", rle=[[1, 2], [3, 4]])], "a list of bytes"),
        ([box("sky", 0, 0, 1, 1) | {"image_rotation": 90}], "turned in Label Studio"),
        ([box("sky", None, 0, 1, 1)], "cannot be drawn"),
        ([result("polygonlabels", "sky", points=[[0, 0], [1, 1]])], "has no inside"),
        ([result("polygonlabels", "sky", points=[[0, 0], [1, 1], [math.nan, 3]])], "has no inside"),
        ([result("polygonlabels", "sky", points="x")], "cannot be drawn"),
        ([result("brushlabels", "sky", rle=[1, 2, 3])], "end too early"),
        ([result("brushlabels", "sky")], "cannot be drawn"),
    ],
)
def test_what_cannot_be_drawn_is_named(results, words):
    with pytest.raises(CampaignError, match=words):
        to_mask(results, CLASSES)
