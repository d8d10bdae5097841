"""Digits, IDX files and arrays."""

from pathlib import Path

import layouts
import numpy as np
import pytest
import torch

from mcdal.errors import PoolError
from mcdal.pool.arrays import Arrays
from mcdal.pool.assemble import from_arrays
from mcdal.pool.base import ArrayImages
from mcdal.pool.digits import Digits
from mcdal.pool.idx import FASHION_MNIST, Idx
from mcdal.pool.split import stratified

CPU = torch.device("cpu")


def test_digits_are_complete_and_stratified(tmp_path: Path) -> None:
    pool = Digits().open(tmp_path)
    assert (len(pool), len(pool.test)) == (1258, 539)
    assert pool.images.picture(0).shape == (8, 8, 1)
    assert pool.images.picture(0).max() == 255
    assert pool.images.ids[0].startswith("digits/")
    assert not set(pool.images.ids) & set(pool.test.images.ids)
    shares = np.bincount(pool.test.y) / (np.bincount(pool.test.y) + np.bincount(pool.targets))
    assert np.allclose(shares, 0.3, atol=0.01)


def test_digits_open_the_same_every_time_and_the_seed_moves_the_split(tmp_path: Path) -> None:
    first, again, other = Digits().open(tmp_path), Digits().open(tmp_path), Digits(split_seed=1).open(tmp_path)
    assert first.fingerprint == again.fingerprint
    assert first.images.ids == again.images.ids
    assert first.fingerprint != other.fingerprint


def test_the_split_follows_ids_and_not_their_order() -> None:
    ids = tuple(f"s{i}" for i in range(50))
    targets = np.arange(50) % 3
    backwards = tuple(reversed(ids))
    held_out = {ids[i] for i in stratified(ids, targets, 0.3, 0)[1]}
    assert held_out == {backwards[i] for i in stratified(backwards, targets[::-1], 0.3, 0)[1]}


def test_a_class_of_one_image_stays_in_the_pool_and_of_two_is_tested() -> None:
    pool, test = stratified(("a", "b", "c"), [0, 1, 1], 0.9, 0)
    assert 0 in pool and len(test) == 1


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(PoolError, match="between 0 and 1"):
        stratified(("a", "b"), [0, 1], share, 0)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("inside", ["", "FashionMNIST/raw"])
def test_idx_files_are_read_plain_and_gzipped(tmp_path: Path, suffix: str, inside: str) -> None:
    layouts.mnist(tmp_path / "data" / inside, suffix)
    pool = Idx(tmp_path / "data", FASHION_MNIST).open(tmp_path / "cache")
    assert pool.classes == FASHION_MNIST
    assert pool.images.ids[7] == "train/00007" and pool.test.images.ids[3] == "test/00003"
    assert np.array_equal(pool.images.picture(7)[..., 0], layouts.noise(0, 20, 28, 28)[7])
    assert pool.targets is not None and pool.targets[7] == 7


def test_idx_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="does not exist"):
        Idx(tmp_path / "nowhere").open(tmp_path)
    folder = layouts.mnist(tmp_path / "data")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(PoolError, match="has no t10k-labels-idx1-ubyte"):
        Idx(folder).open(tmp_path)


def test_idx_refuses_a_wrong_kind_and_cut_off_files(tmp_path: Path) -> None:
    folder = layouts.mnist(tmp_path / "data", "")
    path = folder / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    for content, said in [
        (whole[:-1], "holds only"),
        (whole + b"1", "holds more"),
        (whole[:10], "promises"),
        (b"", "starts with the number 0"),
        (b"\0\0\x09\x03" + whole[4:], "starts with the number 2307"),
    ]:
        path.write_bytes(content)
        with pytest.raises(PoolError, match=said):
            Idx(folder).open(tmp_path)


def test_idx_refuses_a_cut_off_gzip_and_labels_out_of_range(tmp_path: Path) -> None:
    folder = layouts.mnist(tmp_path / "data")
    with pytest.raises(PoolError, match="'train/00009' has class index 9"):
        Idx(folder, FASHION_MNIST[:9]).open(tmp_path)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PoolError, match="cut off"):
        Idx(folder).open(tmp_path)
    path.write_bytes(b"no gzip")
    with pytest.raises(PoolError, match="broken"):
        Idx(folder).open(tmp_path)


@pytest.mark.parametrize("shape", [(12, 5, 6), (12, 5, 6, 1), (12, 5, 6, 3)])
def test_arrays_of_bytes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = layouts.noise(0, *shape)
    pool = Arrays(x, [0, 1] * 6, x, torch.tensor([0, 1] * 6), ids=list("abcdefghijkl")).open(tmp_path)
    (batch,) = pool.images.batches([np.array([3, 1])], CPU)
    assert batch.dtype == torch.uint8 and batch.shape == (2, shape[3] if len(shape) == 4 else 1, 5, 6)
    assert np.array_equal(pool.images.picture(3).squeeze(), x[3].squeeze())
    assert pool.position("c") == 2
    values = x.reshape(12, 5, 6, -1) / 255
    assert np.allclose(pool.mean, values.mean(axis=(0, 1, 2))) and np.allclose(pool.std, values.std(axis=(0, 1, 2)))


def test_arrays_of_floats_are_taken_as_normalised(tmp_path: Path) -> None:
    x = torch.randn(20, 3, 4, 5)
    pool = Arrays(x, torch.arange(20) % 2, test_share=0.5).open(tmp_path)
    assert (pool.mean, pool.std) == ((0.0,) * 3, (1.0,) * 3)
    (batch,) = pool.images.batches([np.arange(2)], CPU)
    first = int(pool.images.ids[0].removeprefix("train/"))
    assert torch.equal(batch[0], x[first])
    assert batch.is_contiguous(memory_format=torch.channels_last)
    picture = pool.images.picture(0)
    assert picture.dtype == np.uint8 and picture.min() == 0 and picture.max() == 255


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"x": np.zeros((4, 2, 2, 3), dtype=np.int64)}, "x is int64"),
        ({"x": np.zeros((4, 2, 2, 2), dtype=np.uint8)}, "2 channels"),
        ({"x": np.full((4, 3, 2, 2), np.nan)}, r"x\[0\] holds NaN"),
        ({"y": [0, 1, 0]}, "4 images, 3 targets"),
        ({"y": [0.0, 1.0, 0.0, 1.0]}, "y is float64"),
        ({"y": [0, 0, 0, 0], "test_y": [0, 0, 0, 0]}, "two are the least"),
        ({"classes": ["a"]}, "'train/00001' has class index 1"),
        ({"classes": ["a", "a"]}, "given twice"),
        ({"ids": ["a", "a", "b", "c"]}, "'a' stands for two images"),
        ({"ids": ["a"]}, "1 ids"),
        ({"test_x": np.zeros((4, 3, 3, 3), dtype=np.uint8)}, "make them alike"),
        ({"test_y": [0, 1, 0]}, "4 test images with 3 targets"),
        ({"x": np.zeros((0, 2, 2, 3), dtype=np.uint8), "y": np.zeros(0, dtype=np.int64)}, "no image left"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    x, y = np.zeros((4, 2, 2, 3), dtype=np.uint8), [0, 1, 0, 1]
    good: dict[str, object] = {"x": x, "y": y, "test_x": x, "test_y": y}
    with pytest.raises(PoolError, match=said):
        Arrays(**{**good, **changed}).open(tmp_path)


def test_images_in_their_own_order_are_those_at_other_places():
    """Bytes that lie together are not copied; what they give is what copies give."""
    pixels = np.arange(6 * 2 * 2 * 3, dtype=np.uint8).reshape(6, 2, 2, 3)
    images = ArrayImages(tuple("abcdef"), pixels)
    cpu = torch.device("cpu")
    for chosen in ([1, 2, 3], [3, 2, 1], [2], [], [0, 1, 3], [4, 4], [0, 1, 2, 3, 4, 5]):
        (batch,) = images.batches([np.array(chosen, dtype=np.int64)], cpu)
        assert torch.equal(batch, torch.from_numpy(pixels[chosen]).permute(0, 3, 1, 2))
    floats = ArrayImages(tuple("abcdef"), pixels.astype(np.float32))
    (batch,) = floats.batches([np.arange(6)], cpu)
    batch.zero_()  # what is taken as normalised already is handed on as it is
    assert floats.pixels.any()


def test_views_looked_up_at_once():
    pixels = np.zeros((5, 2, 2, 1), dtype=np.uint8)
    pool = from_arrays(
        "p", ["x", "y"], (tuple("abcde"), pixels, np.array([0, 1, 0, 1, 0])), (("t",), pixels[:1], np.array([0]))
    )
    labels = {"d": 1, "a": 0}
    labeled, unlabeled = pool.split(labels)
    assert labeled.positions.tolist() == pool.labeled(labels).positions.tolist() == [0, 3]
    assert labeled.y.tolist() == pool.labeled(labels).y.tolist() == [0, 1]
    assert unlabeled.positions.tolist() == pool.unlabeled(labels).positions.tolist() == [1, 2, 4]
    for look in (pool.labeled, pool.unlabeled, pool.split):
        with pytest.raises(PoolError, match="pool 'p' has no sample 'z'"):
            look({"a": 0, "z": 1})
    assert [len(view) for view in pool.split({})] == [0, 5]


def test_labels_that_grow_are_looked_up_anew_each_time():
    """The pool remembers what it found of the same strings; nothing it gives may depend on what it was asked before."""
    pixels = np.zeros((6, 2, 2, 1), dtype=np.uint8)
    pool = from_arrays(
        "p", ["x", "y"], (tuple("abcdef"), pixels, np.arange(6) % 2), (("t",), pixels[:1], np.array([0]))
    )
    labels: dict[str, int] = {}

    def found(labels):
        labeled, unlabeled = pool.split(labels)
        assert sorted([*labeled.positions, *unlabeled.positions]) == list(range(6))
        return {pool.images.ids[i]: y for i, y in zip(labeled.positions.tolist(), labeled.y.tolist(), strict=True)}

    for id, y in zip("dbfa", (1, 0, 1, 1), strict=True):
        labels[id] = y
        assert found(labels) == found(labels.copy()) == labels
    assert found({**labels, "b": 1}) == {**labels, "b": 1}  # a correction stays at its place
    assert found({"d": 1, "b": 0}) == {"d": 1, "b": 0}  # of an earlier round
    assert found({"c": 0, **labels}) == {"c": 0, **labels}
    assert found(dict(reversed(labels.items()))) == labels
    assert found({}) == {} and found(labels) == labels
    with pytest.raises(PoolError, match="has no sample 'z'"):
        pool.split({**labels, "z": 0})
    assert pool.known({**labels, "z": 0, "e": 1}).tolist() == [1, 0, -1, 1, 1, 1]
    with pytest.raises(PoolError, match="has no sample 'z'"):
        pool.split({**labels, "z": 0})
