"""MNIST and Fashion-MNIST: 70,000 grey images of 28x28 in IDX files, gzipped or not."""

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.pool.arrays import numbered
from mcdal.pool.assemble import from_arrays
from mcdal.pool.base import Pool, Source

FASHION_MNIST = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


@dataclass(frozen=True)
class Idx(Source):
    """The four IDX files of MNIST, Fashion-MNIST and their like."""

    data: Path
    """Folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and the two of t10k, each with or without .gz."""
    classes: Sequence[str] = ()
    """Class names; without them the indices are the names."""
    name: str = "mnist"
    """What the pool is called in reports."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        folder = find_folder(Path(self.data).expanduser())
        x, test_x = (read_idx(find_file(folder, f"{part}-{IMAGES}"), 3)[..., None] for part in ("train", "t10k"))
        y, test_y = (read_idx(find_file(folder, f"{part}-{LABELS}"), 1).astype(np.int64) for part in ("train", "t10k"))
        if x.shape[1:] != test_x.shape[1:]:
            raise PoolError(f"{folder}: train images are {x.shape[1:3]} but test images {test_x.shape[1:3]}")
        classes = self.classes or [str(c) for c in range(int(y.max(initial=-1)) + 1)]
        pool, test = (numbered("train", len(x)), x, y), (numbered("test", len(test_x)), test_x, test_y)
        return from_arrays(self.name, classes, pool, test)


def find_folder(data: Path) -> Path:
    """`data`, or the `raw` folder that torchvision puts inside it."""
    if not data.is_dir():
        raise PoolError(f"the folder {data} does not exist: set source.data to where the IDX files lie")
    inside = (data, data / "raw", data / "MNIST" / "raw", data / "FashionMNIST" / "raw")
    return next((folder for folder in inside if any(folder.glob("train-*-ubyte*"))), data)


def find_file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise PoolError(f"{folder} has no {name} or {name}.gz")


def read_idx(path: Path, dimensions: int) -> UInt8[np.ndarray, "..."] | Int[np.ndarray, "..."]:
    """The array in an IDX file of bytes: four bytes say the kind, then one length a dimension, big-endian."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * dimensions)
            magic = int.from_bytes(header[:4], "big")
            if magic != 0x0800 + dimensions:
                raise PoolError(
                    f"{path} starts with the number {magic}, not {0x0800 + dimensions}: it is no IDX file of bytes in "
                    f"{dimensions} dimensions"
                )
            shape = tuple(int(n) for n in np.frombuffer(header[4:], dtype=">u4")) if len(header) % 4 == 0 else ()
            size = int(np.prod(shape, dtype=np.int64)) if len(shape) == dimensions else 0
            content = file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PoolError(f"{path} is cut off or broken: {error}") from error
    if len(shape) != dimensions or len(content) != size:
        held = "more" if len(content) > size else f"only {len(content):,}"
        raise PoolError(f"{path} promises {size:,} bytes ({'x'.join(map(str, shape))}) but holds {held}")
    return np.frombuffer(bytearray(content), dtype=np.uint8).reshape(shape)
