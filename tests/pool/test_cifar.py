import os
import pickle
from pathlib import Path

import layouts
import numpy as np
import pytest

from mcdal.errors import PoolError
from mcdal.pool.cifar import JPEG_COPIES, Cifar
from mcdal.pool.inert_pickle import read_inert

REAL = Path(__file__).parents[3] / "shared" / "datasets" / "cifar10"
LAYOUTS = [layouts.cifar_python, layouts.cifar_binary, layouts.cifar_parquet]


@pytest.mark.parametrize("write", LAYOUTS)
@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("parent", [False, True])
def test_every_layout_gives_the_same_pool(tmp_path: Path, write: object, classes: int, parent: bool) -> None:
    folder = write(tmp_path / "data", classes)
    data = folder.parent if parent else folder
    pool = Cifar(data, classes).open(tmp_path / "cache")
    assert pool.classes == tuple(layouts.CIFAR10 if classes == 10 else layouts.FINE)
    rows, labels = layouts.cifar_rows(0, 10)
    assert pool.images.ids[3] == "train/00003" and pool.test.images.ids[9] == "test/00009"
    assert np.array_equal(pool.images.picture(3), rows[3].reshape(3, 32, 32).transpose(1, 2, 0))
    assert pool.targets is not None and pool.targets[:10].tolist() == labels.tolist()
    assert pool.mean[0] == {10: 0.4914, 100: 0.5071}[classes]


def test_nothing_there_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"cifar-10-batches-py.*cifar-10-batches-bin.*parquet"):
        Cifar(tmp_path).open(tmp_path)
    with pytest.raises(PoolError, match="does not exist"):
        Cifar(tmp_path / "nowhere").open(tmp_path)


@pytest.mark.parametrize("write", LAYOUTS[:2])
def test_a_missing_file_is_named(tmp_path: Path, write: object) -> None:
    folder = write(tmp_path, 10)
    missing = next(path for path in folder.iterdir() if path.name.startswith("data_batch_3"))
    missing.unlink()
    with pytest.raises(PoolError, match=f"lacks {missing.name}"):
        Cifar(tmp_path).open(tmp_path / "cache")


def test_binary_rows_of_the_wrong_size_are_refused(tmp_path: Path) -> None:
    path = layouts.cifar_binary(tmp_path, 10) / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PoolError, match=r"data_batch_2.bin has 30729 bytes, not a whole number of rows of 3073"):
        Cifar(tmp_path).open(tmp_path / "cache")


def test_a_class_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    path = layouts.cifar_binary(tmp_path, 10) / "test_batch.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(PoolError, match="'test/00000' has class index 10"):
        Cifar(tmp_path).open(tmp_path / "cache")


class Attack:
    """What a hostile pickle does: names a callable and its arguments."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    path = layouts.cifar_python(tmp_path, 10) / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": Attack(marker), "labels": [0]}, protocol))
    with pytest.raises(PoolError, match=r"data_batch_1 asks to load \w+.system.*was not run"):
        Cifar(tmp_path).open(tmp_path / "cache")
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins\neval",
        "numpy\nload",
        "numpy.core.multiarray\nscalar",
        "_codecs\ndecode",
        "functools\npartial",
        "numpy\nndarray.tofile",
        "mcdal.pool.inert_pickle\nPath",
    ],
)
def test_only_stand_ins_can_be_loaded(tmp_path: Path, name: str) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"\x80\x02c" + name.encode() + b"\n.")
    with pytest.raises(PoolError, match="was not run"):
        read_inert(path)


@pytest.mark.parametrize(
    "attack",
    [
        # State for a class, and attributes set through the second half of a state.
        b"cnumpy\nndarray\n}(" + layouts.text(b"state") + b"Nub.",
        b"cnumpy\nndarray\nN}(" + layouts.text(b"__setstate__") + b"cnumpy\ndtype\nu\x86b.",
        b"c_codecs\nencode\nN}(" + layouts.text(b"__new__") + b"cnumpy\ndtype\nu\x86b.",
        b"c_codecs\nencode\n" + layouts.text(b"x") + layouts.text(b"rot13") + b"\x86R.",
        b"garbage",
        b"",
        b"\x80\x02].",
    ],
)
def test_tricks_and_garbage_are_errors(tmp_path: Path, attack: bytes) -> None:
    path = tmp_path / "p"
    path.write_bytes(attack)
    with pytest.raises(PoolError):
        read_inert(path)


def test_pickles_rewritten_by_python_3_are_read(tmp_path: Path) -> None:
    folder = layouts.cifar_python(tmp_path, 10)
    rows, labels = layouts.cifar_rows(0, 10)
    for protocol in (2, 4):
        (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": rows, b"labels": labels.tolist()}, protocol))
        pool = Cifar(tmp_path).open(tmp_path / "cache")
        assert np.array_equal(pool.images.picture(0), rows[0].reshape(3, 32, 32).transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"data": layouts.python2_array(layouts.noise(0, 2, 3072))}, "holds"),
        (
            {"data": layouts.python2_array(layouts.noise(0, 2, 9)), "labels": layouts.listed([layouts.number(0)] * 2)},
            "3072",
        ),
        ({"data": layouts.python2_array(layouts.noise(0, 2, 3072)), "labels": layouts.listed([b"N"])}, "data_batch_1"),
        ({"data": layouts.python2_array(layouts.noise(0, 3, 3072)), "labels": layouts.listed([])}, "0 labels"),
        (
            {
                "data": layouts.python2_array(layouts.noise(0, 2, 3072)).replace(b"u1", b"O8"),
                "labels": layouts.listed([layouts.number(0)] * 2),
            },
            "not a table of bytes",
        ),
    ],
)
def test_batches_of_another_form_are_refused(tmp_path: Path, content: dict[str, bytes], said: str) -> None:
    path = layouts.cifar_python(tmp_path, 10) / "data_batch_1"
    path.write_bytes(layouts.python2_pickle(content))
    with pytest.raises(PoolError, match=said):
        Cifar(tmp_path).open(tmp_path / "cache")


def test_parquet_of_another_size_is_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        images = [layouts.encoded(layouts.noise(i, 8, 8, 3)) for i in range(4)]
        layouts.write_parquet(tmp_path / f"{split}.parquet", images, {"label": [0, 1, 2, 3]})
    with pytest.raises(PoolError, match="8x8"):
        Cifar(tmp_path).open(tmp_path / "cache")


@pytest.mark.parametrize(("kind", "notes"), [("PNG", ()), ("JPEG", (JPEG_COPIES,))])
def test_jpeg_copies_are_told(tmp_path: Path, kind: str, notes: tuple[str, ...]) -> None:
    for split in ("train", "test"):
        images = [layouts.encoded(layouts.noise(i, 32, 32, 3), kind) for i in range(10)]
        layouts.write_parquet(tmp_path / f"{split}.parquet", images, {"label": list(range(10))})
    assert Cifar(tmp_path).open(tmp_path / "cache").notes == notes
    assert Cifar(tmp_path).open(tmp_path / "cache").notes == notes, "from the cache too"


def test_another_data_set_beside_it_is_not_taken_for_cifar(tmp_path: Path) -> None:
    for split in ("train", "test"):
        images = [layouts.encoded(layouts.noise(i, 32, 32, 3)) for i in range(2)]
        layouts.write_parquet(
            tmp_path / "a" / f"{split}.parquet",
            images,
            {"label": [0, 1]},
            metadata=layouts.hugging_face({"label": ["x", "y"]}),
        )
    layouts.cifar_parquet(tmp_path / "b", 10)
    assert Cifar(tmp_path).open(tmp_path / "cache").classes == tuple(layouts.CIFAR10)


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs the real CIFAR-10 in {REAL}")
def test_the_real_one(tmp_path: Path) -> None:
    pool = Cifar(REAL).open(tmp_path)
    assert (len(pool), len(pool.test)) == (50_000, 10_000)
    assert pool.targets is not None and np.bincount(pool.targets).tolist() == [5000] * 10
