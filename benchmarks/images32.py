"""Images of 32x32 for `overhead.py`, the same from each of three sources: in memory, Parquet shards, a folder of JPEGs."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mcdal.pool.assemble import from_arrays
from mcdal.pool.base import ArrayImages, Pool
from mcdal.pool.cifar import Cifar
from mcdal.pool.folder import Folder
from mcdal.pool.parquet import Parquet

SOURCES = ("memory", "parquet", "jpegs")


class Images32:
    """Pixels and labels that every source is made of."""

    def __init__(self, n: int, data: Path | None = None, cache: Path | None = None):
        if data is not None and cache is not None:
            pool = Cifar(data).open(cache)
            assert isinstance(pool.images, ArrayImages) and pool.targets is not None
            self.pixels, self.targets = np.array(pool.images.pixels[:n]), pool.targets[:n]
        else:
            # Smooth noise: as a JPEG it takes about as long to decode as a photograph.
            generator = np.random.default_rng(0)
            small = generator.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
            self.pixels = small.repeat(4, 1).repeat(4, 2)
            self.targets = np.arange(n) % 10

    def source(self, name: str, folder: Path, batch: int) -> Pool:
        """One of SOURCES, its test part two batches large."""
        make = {"memory": self._in_memory, "parquet": self._parquet, "jpegs": self._jpegs}[name]
        return make(folder, min(2 * batch, len(self.pixels) // 2))

    def _in_memory(self, folder: Path, test: int) -> Pool:
        ids = tuple(f"train/{i:05d}" for i in range(len(self.pixels)))
        parts = [(ids[part], self.pixels[part], self.targets[part]) for part in (slice(test, None), slice(test))]
        return from_arrays("memory", [str(c) for c in range(10)], parts[0], parts[1])

    def _parquet(self, folder: Path, test: int) -> Pool:
        for part, name in ((slice(test, None), "train"), (slice(test), "test")):
            rows = [{"bytes": content} for content in map(self._encoded, self.pixels[part])]
            path = folder / "shards" / f"{name}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({"image": rows, "label": self.targets[part]}), path)
        return Parquet(folder / "shards").open(folder / "cache")

    def _jpegs(self, folder: Path, test: int) -> Pool:
        for i, (pixels, target) in enumerate(zip(self.pixels, self.targets, strict=True)):
            path = folder / "jpegs" / ("test" if i < test else "train") / f"class_{target}" / f"{i:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._encoded(pixels))
        # No cache: every batch is decoded again.
        return Folder(folder / "jpegs", cache_gib=1e-9, workers=1).open(folder / "cache")

    @staticmethod
    def _encoded(pixels: np.ndarray) -> bytes:
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, "JPEG", quality=90)
        return sink.getvalue()
