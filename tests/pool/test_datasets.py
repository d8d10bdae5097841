import gc
import multiprocessing
import time
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset

from mcdal.errors import PoolError
from mcdal.pool.datasets import Datasets

CPU = torch.device("cpu")


class Listed(Dataset[Any]):
    """Samples from a list, with whatever attributes a test gives it."""

    def __init__(self, samples: list[Any], **attributes: Any):
        self.samples = samples
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


def samples(count: int, make: Any = lambda pixels: pixels) -> list[Any]:
    return [(make(layouts.noise(i, 6, 5, 3)), i % 2) for i in range(count)]


MAKERS = {
    "pil": Image.fromarray,
    "array": lambda pixels: pixels,
    "tensor": lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1),
}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("workers", [0, 2])
def test_images_of_every_kind_become_the_same_bytes(tmp_path: Path, kind: str, workers: int) -> None:
    dataset = Listed(samples(6, MAKERS[kind]), classes=["cat", "dog"])
    pool = Datasets(dataset, dataset, workers=workers).open(tmp_path)
    assert pool.classes == ("cat", "dog") and pool.images.ids[4] == "train/00004"
    before = torch.random.get_rng_state()
    batches = list(pool.images.batches([np.array([5, 0]), np.array([3])], CPU))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [len(batch) for batch in batches] == [2, 1]
    assert batches[0].dtype == torch.uint8 and batches[0].shape == (2, 3, 6, 5)
    assert np.array_equal(batches[0][0].permute(1, 2, 0), layouts.noise(5, 6, 5, 3))
    assert np.array_equal(pool.images.picture(3), layouts.noise(3, 6, 5, 3))
    assert pool.targets is not None and pool.targets.tolist() == [0, 1] * 3


def test_floats_are_taken_as_normalised_and_grey_has_one_channel(tmp_path: Path) -> None:
    x = torch.randn(8, 6, 5)
    dataset = TensorDataset(x, torch.arange(8) % 2)
    pool = Datasets(dataset, Subset(dataset, [1, 2, 3]), ids=list("abcdefgh"), name="mine").open(tmp_path)
    assert (pool.name, pool.mean, pool.std, pool.images.ids) == ("mine", (0.0,), (1.0,), tuple("abcdefgh"))
    (batch,) = pool.images.batches([np.array([2])], CPU)
    assert torch.equal(batch[0, 0], x[2])
    assert pool.test.y.tolist() == [1, 0, 1]


def test_known_targets_are_used_without_reading_and_only_if_they_are_true(tmp_path: Path) -> None:
    class Counting(Listed):
        reads = 0

        def __getitem__(self, index: int) -> Any:
            Counting.reads += 1
            return self.samples[index]

    true = Counting(samples(200), targets=[0, 1] * 100)
    assert Datasets(true, Listed(samples(4))).open(tmp_path).targets is not None
    assert Counting.reads < 200 + 100  # a few are looked at, and the statistics read each once
    transformed = Listed([(image, 1 - y) for image, y in samples(6)], targets=[0, 1] * 3)
    pool = Datasets(transformed, Listed(samples(4)), classes=["a", "b"]).open(tmp_path)
    assert pool.targets is not None and pool.targets.tolist() == [1, 0] * 3


def test_given_targets_win(tmp_path: Path) -> None:
    pool = Datasets(Listed(samples(4)), Listed(samples(4)), targets=[1, 1, 0, 0]).open(tmp_path)
    assert pool.targets is not None and pool.targets.tolist() == [1, 1, 0, 0]


def test_labels_may_be_tensors_and_numpy_numbers(tmp_path: Path) -> None:
    labels = [torch.tensor(0), np.int64(1), np.array([1]), 0]
    mixed = Listed([(image, y) for (image, _), y in zip(samples(4), labels, strict=True)])
    pool = Datasets(mixed, Listed(samples(2))).open(tmp_path)
    assert pool.targets is not None and pool.targets.tolist() == [0, 1, 1, 0]


class Random(Listed):
    def __getitem__(self, index: int) -> Any:
        return torch.rand(3, 4, 4), index % 2


SMALL = np.zeros((2, 2, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"train": Random(samples(4))}, "another image each time"),
        ({"train": Listed([])}, "is empty"),
        ({"train": Listed([SMALL] * 4)}, "train/00000 is a ndarray; the dataset must give"),
        ({"train": Listed([("file.jpg", 0)] * 4)}, "train/00000 is a str"),
        ({"train": Listed([(SMALL, "cat")] * 4)}, "has the label 'cat'"),
        ({"train": Listed([(SMALL, -1)] * 4)}, "has the label -1"),
        ({"train": Listed([(SMALL, 0.5)] * 4)}, "has the label 0.5"),
        ({"train": Listed([(SMALL.astype(np.int32), 0)] * 4)}, "is int32"),
        ({"train": Listed([(torch.full((3, 2, 2), torch.nan), 0)] * 4)}, "holds NaN"),
        ({"train": Listed([(Image.new("P", (4, 4)), 0)] * 4)}, "mode P"),
        ({"train": Listed([(SMALL, 0), (SMALL, 1)] * 2)}, "images of train are .* but those of test"),
        ({"train": Listed([*samples(3), (SMALL, 1)])}, "must have one shape"),
        ({"train": Listed([*samples(3), (np.zeros((6, 5, 3)), 1)])}, "must have one shape and type"),
        ({"targets": [0, 1]}, "2 targets for 4 images"),
        ({"ids": ["a"]}, "1 ids for 4 images"),
        ({"ids": ["a", "a", "b", "c"]}, "'a' stands for two images"),
        ({"classes": ["only"]}, "has class index 1"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_datasets_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, Any], said: str, workers: int) -> None:
    good: dict[str, Any] = {"train": Listed(samples(4)), "test": Listed(samples(4))}
    with pytest.raises(PoolError, match=said) as error:
        Datasets(**{**good, **changed}, workers=workers, check_all=True).open(tmp_path)
    assert "Traceback" not in str(error.value)


def test_a_sample_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    class Broken(Listed):
        def __getitem__(self, index: int) -> Any:
            if index == 2:
                raise OSError("disk trouble")
            return self.samples[index]

    with pytest.raises(PoolError, match="train/00002 cannot be read from the dataset: OSError: disk trouble"):
        Datasets(Broken(samples(4)), Listed(samples(2))).open(tmp_path)


def test_readers_that_are_dropped_early_end_at_once(tmp_path: Path) -> None:
    pool = Datasets(Listed(samples(30)), Listed(samples(2)), workers=2).open(tmp_path)
    batches = pool.images.batches(([i] * np.ones(2, dtype=np.int64) for i in range(30)), CPU)
    next(batches)
    children = multiprocessing.active_children()
    started = time.monotonic()
    del batches
    gc.collect()
    assert time.monotonic() - started < 4
    assert len(children) == 2 and not any(child.is_alive() for child in children)


def test_check_all_finds_what_a_few_looks_miss(tmp_path: Path) -> None:
    broken = Listed([*samples(50), (SMALL, 1), *samples(50)], targets=[*[0, 1] * 25, 1, *[0, 1] * 25])
    with pytest.raises(PoolError, match="train/00050 is uint8 2x2x3"):
        Datasets(broken, Listed(samples(2)), check_all=True).open(tmp_path)
