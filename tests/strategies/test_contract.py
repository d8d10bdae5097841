"""Every registered strategy keeps the contract; a new one is tested without writing a test."""

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from mcdal.errors import ConfigError
from mcdal.models.small_segmentation import SmallSegmentation
from mcdal.pool.base import ArrayImages, LabeledView
from mcdal.pool.masks import ArrayMasks
from mcdal.registry import listed, load
from mcdal.scenes import SceneAugment
from mcdal.showing import heat
from mcdal.strategies.batch_bald import BatchBALD
from mcdal.strategies.core_set import CoreSet
from mcdal.strategies.daal import DAAL
from mcdal.strategies.ensemble import Ensemble
from mcdal.strategies.margin import Margin
from mcdal.strategies.mc_dropout import MCDropout
from mcdal.strategies.mcdal import MCDAL
from mcdal.strategies.sraal import SRAAL
from mcdal.strategies.uherding import UHerding
from mcdal.strategies.vaal import VAAL
from mcdal.testing import (
    NUMERICS,
    assert_same,
    check_continues,
    check_leaves_task_model_alone,
    check_picks_are_valid,
    check_rows,
    fake_scene_config,
    fake_scenes,
    fake_trained,
    fake_training,
)

VARIANTS = {
    "mc_dropout: own layers": partial(MCDropout, dropout=None),
    "ensemble: variation ratio": partial(Ensemble, score="variation_ratio"),
    "batch_bald: few combinations": partial(BatchBALD, combinations=20),
    "core_set: robust": partial(CoreSet, outliers=0.0),
    "uherding: no second network": partial(UHerding, held_out=0.0),
    "margin: power": partial(Margin, sampling="power"),
    "margin: balanced": partial(Margin, sampling="balanced"),
    "mcdal: published": partial(MCDAL, published=True),
    "mcdal: alg1": partial(MCDAL, alg1=True),
    "mcdal: 4 heads, l2": partial(MCDAL, heads=4, distance="l2"),
    "mcdal: kl": partial(MCDAL, distance="kl"),
    "mcdal: 2 pairs, 2 steps, balanced": partial(MCDAL, pairs=2, head_steps=2, weight=4.0, sampling="balanced"),
    "mcdal: no discrepancy loss": partial(MCDAL, discrepancy_loss=False),
}
# Networks of the published size take minutes on a CPU; these are the same but for their width.
SMALLER = {
    "vaal": partial(VAAL, width=2, latent=4, size=16),
    "vaal: author": partial(VAAL, width=2, latent=4, size=16, mode="author"),
    "vaal: one step": partial(VAAL, width=2, latent=4, size=16, vae_steps=1),
    "sraal": partial(SRAAL, width=2, latent=4, size=16),
    "sraal: author": partial(SRAAL, width=2, latent=4, size=16, mode="author"),
    "daal": partial(DAAL, passes=2, width=8, latent=4),
}
SCENES = {
    "mcdal: compared by pixel": partial(MCDAL, compared="pixel"),
}
EVERY = {name: load("strategies", name) for name in listed("strategies")} | VARIANTS | SMALLER


CHECKS = [check_leaves_task_model_alone, check_rows, check_picks_are_valid, check_continues]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", EVERY)
def test_contract(name, check):
    check(EVERY[name])


def can_do_scenes(make):
    strategy = make()
    return "segmentation" in strategy.about.tasks and getattr(strategy, "sampling", "") != "balanced"


ABLE = {name: make for name, make in EVERY.items() if can_do_scenes(make)} | SCENES


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", ABLE)
def test_contract_on_scenes(name, check):
    check(ABLE[name], fake_scenes())


@pytest.mark.parametrize(
    "check", [check_leaves_task_model_alone, check_rows, check_continues], ids=lambda c: c.__name__
)
@pytest.mark.parametrize("name", sorted(ABLE.keys() - {"mc_dropout: own layers"}))  # this network has none
def test_contract_with_real_heads_and_crops(name, check, monkeypatch):
    """Heads that enlarge, crops that are no multiple of their stride, weighted classes."""
    pool = large_scenes()
    augment = SceneAugment(crop=(13, 18))
    training = fake_training(augment=augment, batch_size=4, unlabeled_batch_size=4, class_weights="median_frequency")
    monkeypatch.setattr("mcdal.testing.fake_training", lambda: training)
    monkeypatch.setattr("mcdal.testing.FakeSegmenter", lambda classes: SmallSegmentation(2).build(classes, 3, (16, 24)))
    check(ABLE[name], pool)


def large_scenes():
    """Fake scenes, enlarged to 16x24."""
    pool = fake_scenes(24)
    enlarged = [np.repeat(np.repeat(a, 2, 1), 3, 2) for a in (pool.images.pixels, pool.masks.array)]
    test = [np.repeat(np.repeat(a, 2, 1), 3, 2) for a in (pool.test.images.pixels, pool.test.masks.array)]
    images, test_images = ArrayImages(pool.images.ids, enlarged[0]), ArrayImages(pool.test.images.ids, test[0])
    view = LabeledView(test_images, pool.test.positions, pool.test.y, ArrayMasks(test[1]))
    return replace(pool, images=images, masks=ArrayMasks(enlarged[1]), test=view)


@pytest.mark.parametrize("name", ABLE)
def test_where_it_looks_is_seen_without_a_trace(name):
    trained = fake_trained(ABLE[name](), pool=fake_scenes())
    before = copy.deepcopy(trained.model.state_dict())
    rows = trained.rows()
    maps = heat(trained.model, trained.pool, np.array([5, 1]), trained.strategy, numerics=NUMERICS)
    assert maps is None or (maps.shape == (2, 8, 8) and np.isfinite(maps).all())
    assert_same(trained.model.state_dict(), before, "looking left a trace in the model")
    again = trained.rows()
    np.testing.assert_array_equal(rows.score, again.score, err_msg="looking left a trace in the strategy")


@pytest.mark.parametrize("name", sorted(EVERY.keys() - ABLE.keys()))
def test_a_strategy_that_cannot_do_scenes_says_so_before_training(name):
    with pytest.raises(ConfigError, match="it is for classification, and this is segmentation"):
        fake_trained(EVERY[name](), pool=fake_scenes())
    with pytest.raises(ConfigError, match="it is for classification, and this is segmentation"):
        fake_scene_config(EVERY[name]())
