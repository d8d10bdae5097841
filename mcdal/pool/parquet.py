"""Parquet shards with encoded images and labels, as Hugging Face and others write them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcdal.errors import PoolError
from mcdal.events import Listener, nobody
from mcdal.pool.assemble import check_range
from mcdal.pool.base import Pool, Source
from mcdal.pool.decode import MAX_PIXELS, BadImages
from mcdal.pool.prepare import Listing, Reading, prepare
from mcdal.pool.shards import Columns, Shards, class_indices, read_shards
from mcdal.pool.split import stratified


@dataclass(frozen=True)
class Parquet(Source):
    """Rows of Parquet files. In a folder, shards with `test` in their names are the test images if there are any."""

    data: Path | Sequence[Path]
    """A folder of shards, one file, or a list of files."""
    test: Path | Sequence[Path] | None = None
    """Shards with the test images: a folder, one file, or a list of files."""
    image_column: str = "image"
    """Column of encoded images: binary, or a struct with `bytes`."""
    label_column: str = "label"
    """Column of class indices or class names."""
    id_column: str | None = None
    """Column of stable ids; without it `FILE:ROW`, such as `train-00000-of-00001:17`."""
    classes: Sequence[str] = ()
    """Class names; without them those in the schema's metadata, or the values of the label column."""
    test_share: float = 0.2
    """Share of every class that is held out for the test where there are no test shards."""
    split_seed: int = 0
    """Seed of the held-out split."""
    size: int | None = None
    """Side in pixels that images are scaled and cropped to; without it all images must have one shape."""
    bad_images: BadImages = "refuse"
    """What is done with unusable images: refuse, quarantine (set aside), or convert (where there is a way)."""
    max_pixels: int = MAX_PIXELS
    """Images with more pixels are not decoded."""
    cache_gib: float = 4.0
    """The decoded images may take this much on disk."""
    workers: int = 4
    """Threads that decode at the first opening."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        files, test_files = find_shards(self.data), find_shards(self.test) if self.test else []
        if not test_files and isinstance(self.data, str | Path) and Path(self.data).is_dir():
            test_files = [file for file in files if "test" in file.name.lower()]
            files = [file for file in files if file not in test_files]
        columns = Columns((self.image_column,), self.label_column, self.id_column)
        shards = read_shards(files, columns)
        test = read_shards(test_files, columns) if test_files else None
        reading = Reading(self.size, self.bad_images, self.max_pixels, self.cache_gib, self.workers)
        return prepare(self._listing(shards, test), reading, cache, listen)

    def _listing(self, shards: Shards, test: Shards | None) -> Listing:
        names = tuple(self.classes) or shards.names or tuple(str(v) for v in sorted(set(shards.labels)))
        if not self.classes and not shards.names and isinstance(shards.labels[0], int):
            names = tuple(str(c) for c in range(max(shards.labels) + 1))
        name = shards.files[0].resolve().parent.name
        every = [shards] if test is None else [shards, test]
        for part in every:
            check_labels(name, part, names)
        if test is not None and self.id_column and (both := set(shards.ids) & set(test.ids)):
            raise PoolError(f"{name}: the id {min(both)!r} is in the pool and in the test ({len(both)} such ids)")
        targets = class_indices(shards.labels, names)
        if test is None:
            chosen = stratified(shards.ids, targets, self.test_share, self.split_seed)
            pool_rows, test_rows = (shards.rows(positions, targets) for positions in chosen)
        else:
            pool_rows = shards.rows(np.arange(len(targets)), targets)
            test_targets = class_indices(test.labels, names)
            test_rows = test.rows(np.arange(len(test_targets)), test_targets)
        sizes = tuple(size for part in every for size in part.sizes())
        stamps = tuple(stamp for part in every for stamp in part.stamps())
        settings = (self.image_column, self.label_column, self.id_column)
        return Listing(name, names, pool_rows, test_rows, sizes, (*settings, *stamps))


def find_shards(data: Path | Sequence[Path] | str) -> list[Path]:
    """Parquet files in the order of their names, so that rows never change places."""
    if not isinstance(data, str | Path):
        files = [Path(file).expanduser() for file in data]
    else:
        path = Path(data).expanduser()
        if not path.exists():
            raise PoolError(f"{path} does not exist: set source.data to a folder of Parquet files")
        files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise PoolError(f"no .parquet file in {data}")
    stems = [file.stem for file in files]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise PoolError(f"two shards are called {twice!r}: ids are made of the file names, so these must differ")
    return files


def check_labels(name: str, shards: Shards, names: tuple[str, ...]) -> None:
    """PoolError for two rows with one id, or for a label that is no class; each names the row."""
    seen: set[str] = set()
    for id in shards.ids:
        if id in seen:
            raise PoolError(f"{name}: the id {id!r} stands for two rows; ids must be unique")
        seen.add(id)
    targets = class_indices(shards.labels, names)
    if (targets < 0).any() and not isinstance(shards.labels[int(np.argmin(targets))], int):
        wrong = int(np.argmin(targets))
        raise PoolError(f"{name}: {shards.ids[wrong]!r} has the label {shards.labels[wrong]!r}, which is no class")
    check_range(name, "listed", shards.ids, targets, names)
