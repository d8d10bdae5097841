"""CamVid in SegNet's layout: small copies of it, a tar file, and the real one."""

import tarfile
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch

from mcdal.errors import PoolError
from mcdal.pool.base import ArrayImages, Pool
from mcdal.pool.camvid import CamVid
from mcdal.pool.loading import FileImages
from mcdal.tasks.segmentation import Segmentation
from mcdal.values import VOID

REAL = Path(__file__).parents[3] / "shared" / "datasets" / "camvid"


def reopen(data: Path, cache: Path, **fields: object) -> Pool:
    return CamVid(data, **{"workers": 0, **fields}).open(cache)


@pytest.mark.parametrize("kind", ["png", "webp"])
@pytest.mark.parametrize("parent", [False, True])
def test_the_layout_is_read(tmp_path: Path, kind: str, parent: bool) -> None:
    folder = layouts.camvid(tmp_path / "data" / "CamVid", kind=kind)
    pool = reopen(folder.parent if parent else folder, tmp_path / "cache")
    assert CamVid.task == "segmentation" and isinstance(pool.task, Segmentation)
    assert pool.classes[:3] == ("sky", "building", "pole") and len(pool.classes) == 11
    assert pool.task.colours is not None and pool.task.colours[3] == (128, 64, 128)
    assert pool.images.ids == (
        "train/0001TP_00001",
        "train/0001TP_00003",
        "train/Seq05VD_f00000",
        "train/Seq05VD_f00002",
    )
    assert pool.groups == ("0001TP", "0001TP", "Seq05VD", "Seq05VD")
    assert pool.test.images.ids[0] == "test/0001TP_00001"
    assert pool.shape == (3, (12, 16)) and pool.masks is not None and pool.masks.size == (12, 16)
    assert np.array_equal(pool.images.picture(2), layouts.noise(0, 12, 16, 3))


def test_masks_belong_to_their_images_and_void_is_void(tmp_path: Path) -> None:
    pool = reopen(layouts.camvid(tmp_path / "CamVid"), tmp_path / "cache")
    assert pool.masks is not None and pool.targets is not None and pool.targets.tolist() == [0, 1, 2, 3]
    for view, first, seeds in ((pool.masks, 0, (1, 3, 0, 2)), (pool.test.masks, 200, (1, 3, 0, 2))):
        assert view is not None
        for number, seed in enumerate(seeds):
            expected = layouts.mask(first + seed, list(range(12)))
            expected[expected == 11] = VOID
            assert np.array_equal(view[np.array([number])][0], expected)
    assert pool.test.answers(np.array([1, 0])).shape == (2, 12, 16)
    known = pool.truth()
    assert pool.labeled({"train/0001TP_00003": known["train/0001TP_00003"]}).answers(slice(None)).dtype == np.uint8


def test_statistics_are_of_the_pools_pixels(tmp_path: Path) -> None:
    pool = reopen(layouts.camvid(tmp_path / "CamVid"), tmp_path / "cache")
    pixels = np.stack([layouts.noise(i, 12, 16, 3) for i in range(4)]) / 255
    np.testing.assert_allclose(pool.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(pool.std, pixels.std((0, 1, 2)), rtol=1e-9)


def test_the_split_that_is_tested_on_is_a_field_and_counts_are_noted(tmp_path: Path) -> None:
    folder = layouts.camvid(tmp_path / "CamVid")
    pool = reopen(folder, tmp_path / "cache", test_split="val")
    assert pool.test.images.ids[0] == "val/0001TP_00001"
    assert pool.fingerprint != reopen(folder, tmp_path / "cache").fingerprint
    assert "CamVid is not complete: train has 4 images, not 367" in pool.notes
    assert "CamVid is not complete: val has 4 images, not 101" in pool.notes
    source = CamVid(folder)
    object.__setattr__(source, "test_split", "train")  # as outside the tests, where types are not checked
    with pytest.raises(PoolError, match="test_split is 'train': choose test or val"):
        source.open(tmp_path / "cache")


def test_a_tar_is_unpacked_once_and_is_the_same_pool(tmp_path: Path) -> None:
    folder = layouts.camvid(tmp_path / "data" / "CamVid")
    expected = reopen(folder, tmp_path / "cache")
    tar = tmp_path / "tars" / "camvid.tar"
    tar.parent.mkdir()
    with tarfile.open(tar, "w") as archive:
        archive.add(folder, "CamVid")
        archive.add(Path(__file__), "../../train/evil.png.py")
        archive.add(folder / "train" / "0001TP_00001.png", "../escaped.png")
    for data in (tar, tar.parent, tar):
        pool = reopen(data, tmp_path / "cache")
        assert pool.fingerprint == expected.fingerprint and pool.images.ids == expected.images.ids
    assert len(list((tmp_path / "cache").glob("camvid-tar-*.lock"))) == 1
    assert not list(tmp_path.rglob("*escaped*")) and not list(tmp_path.rglob("*evil*"))
    tar.write_bytes(tar.read_bytes()[:5000])
    with pytest.raises(PoolError, match=r"camvid.tar"):
        reopen(tar, tmp_path / "cache")


def test_nothing_there_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="does not hold CamVid in SegNet's layout"):
        reopen(tmp_path, tmp_path / "cache")
    tar = tmp_path / "camvid.tar"
    with tarfile.open(tar, "w") as archive:
        archive.add(Path(__file__), "readme.txt")
    with pytest.raises(PoolError, match=r"camvid.tar does not hold CamVid"):
        reopen(tmp_path, tmp_path / "cache")
    layouts.camvid(tmp_path / "CamVid")
    for path in (tmp_path / "CamVid" / "testannot").iterdir():
        path.unlink()
    with pytest.raises(PoolError, match="4 files lack their other half"):
        reopen(tmp_path, tmp_path / "cache")


def test_a_number_that_is_no_class_is_named(tmp_path: Path) -> None:
    folder = layouts.camvid(tmp_path / "CamVid")
    path = folder / "valannot" / "0001TP_00001.png"
    path.write_bytes(layouts.encoded(layouts.mask(0, [3, 12])))
    reopen(folder, tmp_path / "cache")
    with pytest.raises(
        PoolError, match=r"(?s)id 12: 96 pixels in 1 masks, first in .*valannot/0001TP_00001.png\n.*0 to 10"
    ):
        reopen(folder, tmp_path / "cache", test_split="val")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("size", [None, (6, 8)])
def test_pools_that_do_not_fit_are_read_from_their_files(
    tmp_path: Path, workers: int, size: tuple[int, int] | None
) -> None:
    folder = layouts.camvid(tmp_path / "CamVid")
    kept = reopen(folder, tmp_path / "cache", size=size)
    read = reopen(folder, tmp_path / "cache", size=size, cache_gib=0.0, workers=workers)
    assert isinstance(kept.images, ArrayImages) and isinstance(read.images, FileImages)
    assert (read.mean, read.std, read.fingerprint) == (kept.mean, kept.std, kept.fingerprint)
    positions = [np.array([3, 1]), np.arange(4)]
    for one, other in zip(*(p.images.batches(positions, torch.device("cpu")) for p in (kept, read)), strict=True):
        assert torch.equal(one, other) and one.shape[2:] == (size or (12, 16))
    for a, b in ((kept.masks, read.masks), (kept.test.masks, read.test.masks)):
        assert a is not None and b is not None and a.size == b.size == (size or (12, 16))
        assert np.array_equal(a[np.array([2, 0])], b[np.array([2, 0])])
        assert np.array_equal(a.pixels(1), b.pixels(1))
    (folder / "trainannot" / "0001TP_00001.png").write_bytes(layouts.encoded(layouts.mask(0, [12])))
    with pytest.raises(PoolError, match=r"0001TP_00001.png has changed since the pool was opened: id 12"):
        read.masks[np.array([0])]


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs the real CamVid in {REAL}")
def test_the_real_one(tmp_path: Path) -> None:
    pool, val = (CamVid(REAL, test_split=split).open(tmp_path) for split in ("test", "val"))
    assert (len(pool), len(pool.test), len(val.test)) == (367, 233, 101) and pool.notes == ()
    assert pool.shape == (3, (360, 480)) and pool.masks is not None and pool.groups is not None
    names, counts = np.unique(pool.groups, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {"0001TP": 62, "0006R0": 101, "0016E5": 204}
    np.testing.assert_allclose(pool.mean, (0.4119, 0.4251, 0.4327), atol=2e-3)
    np.testing.assert_allclose(pool.std, (0.3071, 0.3116, 0.3072), atol=2e-3)
    pixels = sum(pool.masks.pixels(i) for i in range(len(pool)))
    share = dict(zip(pool.classes, pixels[:11] / pixels[:11].sum(), strict=True))
    assert set(np.flatnonzero(pixels)) == {*range(11), VOID}
    assert 0.3 < share["road"] < 0.35 and 0.15 < share["sky"] < 0.2 and share["bicyclist"] < 0.005
    assert sorted(share, key=share.__getitem__)[-3:] == ["sky", "building", "road"]
