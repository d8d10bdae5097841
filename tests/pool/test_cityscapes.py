"""Cityscapes in its original layout."""

from pathlib import Path

import layouts
import numpy as np
import pytest

from mcdal.errors import PoolError
from mcdal.pool.base import Pool
from mcdal.pool.cityscapes import Cityscapes, table
from mcdal.tasks.segmentation import Segmentation
from mcdal.values import VOID

# Label id of each train id, as published.
EVALUATED = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def reopen(data: Path, **fields: object) -> Pool:
    return Cityscapes(data, **{"workers": 0, **fields}).open(data.parent / "cache")


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_layout_is_read(tmp_path: Path, wrapped: bool) -> None:
    pool = reopen(layouts.cityscapes(tmp_path / "cityscapes", wrapped))
    assert Cityscapes.task == "segmentation" and isinstance(pool.task, Segmentation)
    assert len(pool.classes) == 19 and (pool.classes[0], pool.classes[18]) == ("road", "bicycle")
    assert pool.task.colours is not None and pool.task.colours[18] == (119, 11, 32)
    assert pool.images.ids[::3] == ("train/aachen_000000_000019", "train/bochum_000001_000019")
    assert pool.test.images.ids[0] == "val/lindau_000000_000019"
    assert pool.groups == ("aachen", "aachen", "bochum", "bochum")
    assert "Cityscapes is not complete: train has 4 images, not 2,975" in pool.notes
    assert np.array_equal(pool.images.picture(3), layouts.noise(11, 24, 48, 3))
    assert pool.masks is not None and pool.test.masks is not None
    ids = layouts.mask(11, [*range(34), 255], 24, 48)
    expected = np.full_like(ids, VOID)
    for index, id in enumerate(EVALUATED):
        expected[ids == id] = index
    assert np.array_equal(pool.masks[np.array([3])][0], expected)
    assert pool.test.masks[np.array([0, 1])].shape == (2, 24, 48)


def test_the_table_is_the_official_one() -> None:
    found = table("labelIds")
    assert set(found.meaning) == {*range(34), 255}
    assert [id for id, index in sorted(found.meaning.items()) if index != VOID] == EVALUATED
    assert [found.meaning[id] for id in EVALUATED] == list(range(19))
    trained = table("labelTrainIds")
    assert trained.classes == found.classes and trained.colours == found.colours
    assert trained.meaning == {**{i: i for i in range(19)}, 255: VOID}


def test_masks_of_train_ids_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    data = layouts.cityscapes(tmp_path / "cityscapes")
    pool = reopen(data, masks="labelTrainIds")
    assert pool.masks is not None
    assert np.array_equal(pool.masks[np.array([0])][0], layouts.mask(0, [*range(19), 255], 24, 48))
    assert pool.fingerprint != reopen(data).fingerprint


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="has no folder leftImg8bit with train and val"):
        reopen(tmp_path / "cityscapes")
    data = layouts.cityscapes(tmp_path / "cityscapes")
    next((data / "gtFine" / "val").rglob("munster_000001_*labelIds.png")).unlink()
    with pytest.raises(PoolError, match=r"(?s)1 files lack.*munster_000001_000019_leftImg8bit.png: no mask"):
        reopen(data)
    (data / "gtFine").rename(data / "elsewhere")
    with pytest.raises(PoolError, match="has no folder gtFine"):
        reopen(data)


def test_an_id_that_is_not_published_is_named(tmp_path: Path) -> None:
    data = layouts.cityscapes(tmp_path / "cityscapes")
    path = next((data / "gtFine").rglob("aachen_000001_*labelIds.png"))
    path.write_bytes(layouts.encoded(layouts.mask(0, [7, 34], 24, 48)))
    with pytest.raises(
        PoolError, match=r"(?s)id 34: 576 pixels in 1 masks, first in .*aachen_000001.*no such labelIds"
    ):
        reopen(data)


def test_scaled_and_read_from_files_as_kept(tmp_path: Path) -> None:
    data = layouts.cityscapes(tmp_path / "cityscapes")
    kept, read = reopen(data, size=(12, 24)), reopen(data, size=(12, 24), cache_gib=0.0)
    assert kept.masks is not None and read.masks is not None and kept.shape == read.shape == (3, (12, 24))
    whole = reopen(data)
    assert whole.masks is not None
    halved = whole.masks[np.arange(4)][:, 1::2, 1::2]  # blocks of 4x4: any pixel of a 2x2 square is the nearest
    assert np.array_equal(kept.masks[np.arange(4)], halved) and np.array_equal(read.masks[np.arange(4)], halved)
    means = whole.images.picture(0).reshape(12, 2, 24, 2, 3).mean((1, 3))
    assert np.abs(kept.images.picture(0) - means).mean() < 25  # a wider filter than the mean, of noise
