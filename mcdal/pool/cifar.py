"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32x32, as Python batches, binary batches or Parquet."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Int, UInt8

from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.pool.arrays import numbered
from mcdal.pool.assemble import Statistics, check_range, from_arrays
from mcdal.pool.base import Pool, Source
from mcdal.pool.encoded import EncodedRows
from mcdal.pool.inert_pickle import InertArray, read_inert
from mcdal.pool.prepare import Listing, Reading, prepare
from mcdal.pool.shards import Columns, Shards, class_indices, has_classes, read_shards

Split: TypeAlias = tuple[UInt8[np.ndarray, "n 32 32 3"], Int[np.ndarray, " n"]]

PUBLISHED = {
    10: Statistics((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    100: Statistics((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
JPEG_COPIES = "the images are JPEG copies of the published ones: accuracies are not quite comparable"
"""A note of a pool whose Parquet files hold such."""


@dataclass(frozen=True)
class Layout:
    """Where the files of one layout lie, and which of them is read for what."""

    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    label: str
    row: int = 0

    def path(self, data: Path) -> Path | None:
        """The folder of this layout: `data` itself or inside it. One file of it is enough to recognise it."""
        for folder in (data, data / self.folder):
            if any((folder / file).is_file() for file in (*self.train, self.test)):
                return folder
        return None


PICKLED = {
    10: Layout(
        "cifar-10-batches-py", tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta", "labels"
    ),
    100: Layout("cifar-100-python", ("train",), "test", "meta", "fine_labels"),
}
BINARY = {
    10: Layout(
        "cifar-10-batches-bin",
        tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        "test_batch.bin",
        "batches.meta.txt",
        "",
        row=1 + 3072,
    ),
    100: Layout("cifar-100-binary", ("train.bin",), "test.bin", "fine_label_names.txt", "", row=2 + 3072),
}


@dataclass(frozen=True)
class Cifar(Source):
    """CIFAR as its authors publish it (Python or binary) or as Parquet; the files that are there tell which."""

    data: Path
    """Folder with the files, or its parent."""
    classes: Literal[10, 100] = 10
    """10 or 100: which CIFAR; of CIFAR-100 the fine labels are read."""
    statistics: Literal["own", "cifar100"] = "own"
    """Whose mean and deviation normalize the images; cifar100 repeats what published code does with CIFAR-10."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        data = Path(self.data).expanduser()
        if self.classes not in PUBLISHED:
            raise PoolError(f"there is a CIFAR-10 and a CIFAR-100, but no CIFAR-{self.classes}")
        if not data.is_dir():
            raise PoolError(f"the folder {data} does not exist: set source.data to where CIFAR-{self.classes} lies")
        pickled, binary = PICKLED[self.classes], BINARY[self.classes]
        if folder := pickled.path(data):
            return self._raw(folder, pickled, lambda path: read_pickled(path, pickled), pickled_names)
        if folder := binary.path(data):
            return self._raw(folder, binary, lambda path: read_binary(path, binary), text_names)
        return self._parquet(data, cache, listen)

    @property
    def _statistics(self) -> Statistics:
        return PUBLISHED[self.classes if self.statistics == "own" else 100]

    def _raw(
        self, folder: Path, layout: Layout, read: Callable[[Path], Split], read_names: Callable[[Path], list[str]]
    ) -> Pool:
        missing = [file for file in (*layout.train, layout.test, layout.names) if not (folder / file).is_file()]
        if missing:
            raise PoolError(f"{folder} lacks {', '.join(missing)} (layout {layout.folder}): unpack the archive again")
        names = read_names(folder / layout.names)
        if len(names) != self.classes:
            raise PoolError(f"{folder / layout.names} names {len(names)} classes, not {self.classes}")
        batches = [read(folder / file) for file in layout.train]
        x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        test_x, test_y = read(folder / layout.test)
        pool, test = (numbered("train", len(x)), x, y), (numbered("test", len(test_x)), test_x, test_y)
        return from_arrays(f"cifar{self.classes}", names, pool, test, self._statistics)

    def _parquet(self, data: Path, cache: Path, listen: Listener) -> Pool:
        columns = Columns(("image", "img"), "label" if self.classes == 10 else "fine_label")
        train, test = (read_shards(files, columns) for files in self._find_shards(data, columns.label))
        names = train.names or tuple(str(c) for c in range(self.classes))
        pool_rows, test_rows = (whole_split(*split, names) for split in (("train", train), ("test", test)))
        sizes, stamps = train.sizes() + test.sizes(), train.stamps() + test.stamps()
        notes = (JPEG_COPIES,) if _is_jpeg(pool_rows) else ()
        listing = Listing(f"cifar{self.classes}", names, pool_rows, test_rows, sizes, stamps, notes)
        pool = prepare(listing, Reading(), cache, listen, self._statistics)
        if (shape := pool.images.picture(0).shape) != (32, 32, 3):
            raise PoolError(f"{train.files[0]} holds images of {shape[1]}x{shape[0]}; CIFAR's are 32x32 in colour")
        return pool

    def _find_shards(self, data: Path, label: str) -> tuple[list[Path], list[Path]]:
        """Train and test shards in `data`, or in the first folder inside it that has this CIFAR's label column."""
        for folder in (data, *sorted(path for path in data.iterdir() if path.is_dir())):
            train, test = (sorted(folder.glob(f"*{split}*.parquet")) for split in ("train", "test"))
            if train and test and (folder == data or has_classes(train[0], label, self.classes)):
                return train, test
        folders = f"{PICKLED[self.classes].folder}/, {BINARY[self.classes].folder}/"
        raise PoolError(
            f"no CIFAR-{self.classes} in {data}; looked for {folders} and *train*.parquet with *test*.parquet, "
            "there and one folder below"
        )


def _is_jpeg(rows: EncodedRows) -> bool:
    first = next(chunk[0] for chunk in rows.chunks())
    return isinstance(first, bytes) and first.startswith(b"\xff\xd8")


def whole_split(split: str, shards: Shards, names: tuple[str, ...]) -> EncodedRows:
    """All rows of some shards, with the ids that the other layouts have too."""
    targets = class_indices(shards.labels, names)
    ids = numbered(split, len(targets))
    check_range("cifar", split, ids, targets, names)
    return shards.rows(np.arange(len(ids)), targets, ids)


def read_pickled(path: Path, layout: Layout) -> Split:
    """One batch of the Python layout."""
    content = read_inert(path)
    data, labels = content.get("data"), content.get(layout.label)
    if not isinstance(data, InertArray) or not isinstance(labels, list):
        raise PoolError(f"{path} has no array 'data' with a list {layout.label!r}; it holds {sorted(content)}")
    try:
        rows, y = data.bytes_2d(), np.array(labels, dtype=np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise PoolError(f"{path}: {error}") from error
    if rows.shape[1] != 3072 or y.shape != (len(rows),):
        raise PoolError(f"{path}: {rows.shape[0]} rows of {rows.shape[1]} bytes with {y.size} labels; a row has 3072")
    return to_images(rows), y


def read_binary(path: Path, layout: Layout) -> Split:
    """One batch of the binary layout: label byte(s), the last being the fine one, then 3,072 pixels a row."""
    content = np.fromfile(path, dtype=np.uint8)
    if len(content) == 0 or len(content) % layout.row:
        raise PoolError(
            f"{path} has {len(content)} bytes, not a whole number of rows of {layout.row}: it is cut off or other data"
        )
    rows = content.reshape(-1, layout.row)
    return to_images(rows[:, -3072:]), rows[:, -3073].astype(np.int64)


def to_images(rows: UInt8[np.ndarray, "n 3072"]) -> UInt8[np.ndarray, "n 32 32 3"]:
    """Rows hold all red, then all green, then all blue pixels."""
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def pickled_names(path: Path) -> list[str]:
    """Class names of the Python layout."""
    content: dict[str, Any] = read_inert(path)
    names = content.get("label_names", content.get("fine_label_names"))
    if "fine_label_names" in content:
        names = content["fine_label_names"]
    if not isinstance(names, list):
        raise PoolError(f"{path} has no list of label names; it holds {sorted(content)}")
    return [name.decode("latin1") if isinstance(name, bytes) else str(name) for name in names]


def text_names(path: Path) -> list[str]:
    """Class names of the binary layout, one a line."""
    return path.read_text(encoding="utf-8").split()
