"""Whole runs on scenes: masks are asked for, kept by their content, and learned from; killed runs continue."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcdal.augment import Augment
from mcdal.errors import ConfigError, PoolError, StoreError
from mcdal.estimate import estimate
from mcdal.loop import run
from mcdal.oracles.base import Oracle
from mcdal.plan import Plan
from mcdal.status import status
from mcdal.store import Store
from mcdal.strategies.entropy import Entropy
from mcdal.strategies.mcdal import MCDAL
from mcdal.strategies.random import Random
from mcdal.testing import (
    Fake,
    FakeDense,
    FakeSource,
    ScriptedOracle,
    fake_config,
    fake_scene_config,
    fake_scenes,
    fake_training,
)
from mcdal.values import VOID, Label
from tests.runs import content


def play(out, config=None, **how):
    return run(Plan(config or fake_scene_config()), out, device="cpu", **how)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    play(out)
    return out


def test_masks_are_kept_as_they_were_given(whole):
    store, pool = Store(whole), fake_scenes()
    labels, kept, truth = store.labels("custom-MCDAL-s0"), store.masks((8, 8)), pool.truth()
    assert len(labels) == 30
    for id, number in labels.items():
        given, true = kept[np.array([number])], pool.masks[np.array([truth[id]])]
        np.testing.assert_array_equal(given, true)
        assert (given == VOID).any()
    store.close()
    files = list(whole.glob("masks/*/*.png"))
    assert 0 < len(files) == len(set(labels.values())), "one file for each different mask"


def test_what_is_recorded(whole):
    metrics = {(m.round, m.name): m.value for m in Store(whole).metrics("custom-MCDAL-s0")}
    for name in ("test/mean_iou", "test/pixel_accuracy", "test/iou/class 0", "train/discrepancy", "score/labeled_mean"):
        assert np.isfinite(metrics[3, name]), name
    ious = [metrics[3, f"test/iou/class {c}"] for c in range(3)]
    assert metrics[3, "test/mean_iou"] == pytest.approx(np.mean(ious))
    assert metrics[0, "labels/classes"] == 3
    (told,) = status(whole)
    assert (told.mean_iou, told.accuracy) == (metrics[3, "test/mean_iou"], None)


def test_learning_from_masks_helps(tmp_path):
    """More steps and labels than chance: the blocks' classes are told by their brightness."""
    still = Augment(crop_padding=0, flip=False, rotation=0.0)
    training = fake_training(epochs=4, steps_per_epoch=25, augment=still, precision="float64")
    play(tmp_path, fake_scene_config(Random(), training=training))
    reached = {m.round: m.value for m in Store(tmp_path).metrics("custom-Random-s0") if m.name == "test/mean_iou"}
    assert reached[3] > 0.3, "a third is what guessing gives of pixels, and a fifth of IoU"


@pytest.mark.parametrize("stage", ["ask", "learn", "pick"])
@pytest.mark.parametrize("strategy", [MCDAL, Entropy])
def test_stopped_and_continued(tmp_path, monkeypatch, stage, strategy):
    import mcdal.loop

    config = fake_scene_config(strategy())
    play(tmp_path / "whole", config)
    real, calls = getattr(mcdal.loop.Run, stage), []

    def stopping(self, round):
        calls.append(round)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, round)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(mcdal.loop.Run, stage, stopping)
        play(tmp_path / "stopped", config)
    play(tmp_path / "stopped", config)
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")


class Draws(Oracle):
    """Answers everything with one mask."""

    def __init__(self, mask):
        self.mask, self.asked = mask, ()

    def ask(self, ids):
        self.asked = ids

    def answers(self):
        return [Label(id, self.mask, "ann") for id in self.asked]


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.zeros((8, 9), dtype=np.uint8), "with a mask of 9x8, but the image has 8x8 pixels"),
        (
            np.full((8, 8), 3, dtype=np.uint8),
            "with a mask that holds class 3, but there are classes 0 to 2, and 255 for none",
        ),
        (2, "as class 2, where a mask is asked for"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(tmp_path, mask, said):
    with pytest.raises(PoolError, match=f"ann labeled 'scene/.*' {said}; no label of this batch was taken"):
        play(tmp_path, oracle=lambda pool: Draws(mask))
    assert Store(tmp_path).labels("custom-MCDAL-s0") == {}


def test_a_class_is_answered_with_a_mask(tmp_path):
    with pytest.raises(PoolError, match="with a mask, where one class is asked for"):
        run(Plan(fake_config()), tmp_path, device="cpu", oracle=lambda pool: Draws(np.zeros((6, 6), dtype=np.uint8)))


def test_masks_that_come_later(tmp_path):
    """The oracle answers five of twelve, then the rest, and the run waits meanwhile."""
    pool = fake_scenes()
    oracle = ScriptedOracle(pool.truth(), [5, 7, 6, 6, 6], pool.masks)
    play(tmp_path, oracle=lambda _: oracle)
    assert status(tmp_path)[0].state == "waiting"
    play(tmp_path, oracle=lambda _: oracle)
    assert status(tmp_path)[0].state == "done"


def test_a_mask_that_changed_is_named(tmp_path):
    play(tmp_path)
    for file in tmp_path.glob("masks/*/*.png"):
        Image.new("L", (8, 8), 1).save(file)
    for state in tmp_path.glob("runs/*/*/training.pt"):
        state.unlink()
    store = Store(tmp_path)
    with pytest.raises(PoolError, match=r"masks/.*\.png: the mask has changed since it was drawn"):
        store.masks((8, 8))[np.array([1])]
    with pytest.raises(StoreError, match="a label speaks of mask 999, which the store does not know"):
        store.masks((8, 8))[np.array([999])]
    store.close()


def test_a_network_of_the_other_task_is_refused():
    with pytest.raises(
        ConfigError, match="model = Fake: it says one class an image, and FakeSceneSource is for segmentation"
    ):
        fake_scene_config(model=Fake())
    with pytest.raises(ConfigError, match="model = FakeDense: it says a class for every pixel"):
        fake_config(source=FakeSource(), model=FakeDense())


def test_nothing_is_left_of_a_half_written_mask(tmp_path, monkeypatch):
    """A full disk while masks are written: an error, and the same command goes on."""
    import mcdal.mask_files

    real, calls = mcdal.mask_files.write_atomically, []

    def full(path: Path, content: bytes):
        calls.append(path)
        if len(calls) == 4:
            raise StoreError(f"cannot write {path}: no space left")
        real(path, content)

    with monkeypatch.context() as patch, pytest.raises(StoreError, match="no space left"):
        patch.setattr(mcdal.mask_files, "write_atomically", full)
        play(tmp_path)
    assert Store(tmp_path).labels("custom-MCDAL-s0") == {}
    play(tmp_path)
    assert status(tmp_path)[0].state == "done"


def test_a_dry_run_of_scenes(tmp_path):
    found = estimate(Plan(fake_scene_config()), tmp_path, device="cpu")
    assert (found.pool, found.test, found.classes) == (60, 30, 3)
    assert found.seconds > 0


def test_kept_masks_travel_as_their_folder_and_the_names_of_the_labels(whole):
    store = Store(whole)
    labels = sorted(set(store.labels("custom-MCDAL-s0").values()))
    kept = store.masks((8, 8))
    before = kept[np.array(labels)]
    sent = pickle.dumps(kept)
    assert len(sent) < 1000, "no mask, and no store"
    there = pickle.loads(sent)
    for some in (labels[:2], labels[1:]):  # a later training knows more
        there.hear(pickle.loads(pickle.dumps(kept.told(some))))
        np.testing.assert_array_equal(there[np.array(some)], kept[np.array(some)])
    np.testing.assert_array_equal(there[np.array(labels)], before)
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize("weighed", ["none", "median_frequency"])
def test_two_processes_play_the_run_of_one(tmp_path, weighed):
    runs = []
    for processes in (1, 2):
        config = fake_scene_config()
        training = replace(config.training, processes=processes, class_weights=weighed)
        play(tmp_path / str(processes), replace(config, training=training))
        found = content(tmp_path / str(processes))
        metrics = {(round, name): value for _, round, name, value in found["metrics"] if name != "train/accuracy"}
        runs.append((found["labels"], [row[1:3] for row in found["queries"]], metrics))
    (labels, picks, metrics), (labels_of_two, picks_of_two, metrics_of_two) = runs
    assert [row[1:] for row in labels_of_two] == [row[1:] for row in labels] and picks_of_two == picks
    assert metrics_of_two == pytest.approx(metrics, rel=1e-7)
