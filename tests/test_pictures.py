"""Pictures decode to what was put in, and what they show of a strategy is what it saw."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mcdal.artifacts import Artifacts
from mcdal.pictures import Heat, Scene, heat_pictures, mask_picture, scenes, spread_out
from mcdal.pool.base import ArrayImages, LabeledView
from mcdal.pool.masks import ArrayMasks
from mcdal.report.masks import read_classes
from mcdal.showing import heat, predict
from mcdal.strategies.entropy import Entropy
from mcdal.strategies.mcdal import MCDAL
from mcdal.strategies.random import Random
from mcdal.tasks.segmentation import Segmentation
from mcdal.testing import NUMERICS, fake_pool, fake_scenes, fake_trained
from mcdal.values import VOID

COLOURS = ((10, 20, 30), (0, 0, 255), (255, 0, 0))


def decoded(png):
    return np.array(Image.open(io.BytesIO(png)))


@pytest.mark.parametrize("colours", [None, COLOURS])
def test_a_mask_keeps_its_classes_and_void(colours):
    mask = np.array([[0, 1, 2], [VOID, VOID, 1]], dtype=np.uint8)
    found, kept = read_classes(mask_picture(mask, Segmentation(("a", "b", "c"), colours=colours)))
    np.testing.assert_array_equal(found, mask)
    if colours is None:
        assert kept is None
    else:
        np.testing.assert_array_equal(kept[:3], colours)


def test_large_scenes_are_kept_small_with_their_masks():
    pixels = np.zeros((1, 700, 1400, 3), dtype=np.uint8)
    pixels[:, :, 700:] = 200
    mask = np.where(np.arange(1400) < 700, 0, 1).astype(np.uint8)[None, None].repeat(700, 1)
    view = LabeledView(ArrayImages(("large",), pixels), np.arange(1), np.arange(1), ArrayMasks(mask))
    (scene,) = scenes(view, np.array([0]), Segmentation(("a", "b"))).values()
    image, truth = decoded(scene.image), decoded(scene.truth)
    assert image.shape == (320, 640, 3) and truth.shape == (320, 640)
    np.testing.assert_array_equal(image[..., 0] > 100, truth == 1)


@pytest.mark.parametrize(("n", "count", "chosen"), [(30, 3, [5, 15, 25]), (2, 3, [0, 1]), (7, 1, [3]), (9, 0, [])])
def test_scenes_are_spread_over_the_test_images(n, count, chosen):
    assert spread_out(n, count).tolist() == chosen


def test_heat_is_kept_on_one_scale():
    maps = np.array([[[0.0, 0.5]], [[1.0, 0.25]]], dtype=np.float32)
    kept = heat_pictures(("a", "b"), maps)
    assert kept.low == 0 and kept.high == pytest.approx(1, abs=0.01)
    for id, one in zip(kept.pictures, maps, strict=True):
        np.testing.assert_allclose(decoded(kept.pictures[id]) / 255, one, atol=0.01)
    level = heat_pictures(("a",), np.full((1, 4, 4), 3.0, dtype=np.float32))
    assert (level.low, level.high) == (3, 3) and not decoded(level.pictures["a"]).any()


def test_pictures_are_read_as_they_were_written(tmp_path):
    artifacts = Artifacts(tmp_path)
    assert (artifacts.read_heat(0), artifacts.read_scenes(), artifacts.read_predictions(0)) == (None, {}, {})
    heats, views = Heat({"b": b"1", "a": b"2"}, -0.5, 2.0), {"t": Scene(b"image", b"truth")}
    artifacts.write_heat(0, heats)
    artifacts.write_scenes(views)
    artifacts.write_predictions(0, {"t": b"said"})
    assert artifacts.read_heat(0) == heats and list(artifacts.read_heat(0).pictures) == ["b", "a"]
    assert artifacts.read_scenes() == views and artifacts.read_predictions(0) == {"t": b"said"}


def shown(strategy, pool=None):
    trained = fake_trained(strategy, pool=pool or fake_scenes())
    return heat(trained.model, trained.pool, np.array([4, 2, 9]), strategy, numerics=NUMERICS, batch_size=2), trained


@pytest.mark.parametrize("strategy", [MCDAL(compared="pixel"), Entropy()])
def test_heat_is_the_score_at_each_pixel(strategy):
    maps, trained = shown(strategy)
    assert maps.shape == (3, 8, 8)
    np.testing.assert_allclose(maps.mean((1, 2)), trained.rows().score[[4, 2, 9]], rtol=1e-5)


def test_the_heads_disagree_at_places_however_images_are_compared():
    by_image, trained = shown(MCDAL())
    trained.strategy.compared = "pixel"
    again = heat(trained.model, trained.pool, np.array([4, 2, 9]), trained.strategy, numerics=NUMERICS, batch_size=2)
    np.testing.assert_array_equal(by_image, again)


def test_no_heat_where_a_score_has_no_place():
    assert shown(Random())[0] is None
    assert shown(Entropy(), fake_pool())[0] is None


def test_pictures_fill_the_batches_that_networks_are_compiled_for(monkeypatch):
    trained = fake_trained(Entropy(), pool=fake_scenes())
    sizes = []
    real = trained.strategy.measure
    monkeypatch.setattr(trained.strategy, "measure", lambda batch: sizes.append(len(batch.ids)) or real(batch))
    compiled = replace(NUMERICS, compile=True)
    monkeypatch.setattr(trained.model, "_compiled_call_impl", trained.model.forward)
    whole = heat(trained.model, trained.pool, np.arange(3), trained.strategy, numerics=compiled, batch_size=16)
    assert sizes == [16] and len(whole) == 3
    few = heat(trained.model, trained.pool, np.arange(3), trained.strategy, numerics=NUMERICS, batch_size=16)
    np.testing.assert_allclose(whole, few, rtol=1e-6)


def test_predictions_are_the_likeliest_classes():
    trained = fake_trained(Random(), pool=fake_scenes())
    said = predict(trained.model, trained.pool, np.array([3, 0]), numerics=NUMERICS, batch_size=4)
    again = predict(trained.model, trained.pool, np.arange(4), numerics=NUMERICS, batch_size=4)
    assert said.shape == (2, 8, 8) and said.max() < 3
    np.testing.assert_array_equal(said, again[[3, 0]])
