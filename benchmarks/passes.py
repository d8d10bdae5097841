"""A pass over a pool in shards: images a second in this process, in several, and on Ray; what starting costs, and when it pays.

A ResNet-18 measures MCDAL's discrepancy on real CIFAR-10 images, decoded from their PNG bytes for each shard. Every side measures
the same shards, in turn. Wall time, since several processes are compared: take it on a machine where nothing else runs.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/passes.py --data DIR --images 20000 --workers 2
"""

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.side_by_side import RESULTS, Check, record
from mcdal.device import Numerics
from mcdal.errors import ConfigError
from mcdal.measuring import measure
from mcdal.models.base import Model
from mcdal.models.resnet import ResNet
from mcdal.passes import Engine, Measured, OnRay, Processes, measure_shards, top_of
from mcdal.pool.base import ArrayImages, LabeledView, Pool
from mcdal.pool.sharded import Shard, Sharded
from mcdal.schedule import Optimization
from mcdal.strategies.base import Setting, Strategy
from mcdal.strategies.mcdal import MCDAL

NUMERICS = Numerics(torch.device("cpu"), "float32", channels_last=True, compile=False)
CLASSES = tuple(str(c) for c in range(10))
TOP = 500


@dataclass(frozen=True)
class Rows(Sharded):
    """Rows of one Parquet file of CIFAR-10, `size` a shard."""

    path: str
    images: int
    size: int

    @property
    def shards(self) -> tuple[Shard, ...]:  # type: ignore[override]
        starts = range(0, self.images, self.size)
        return tuple(Shard(f"rows-{i:06d}", min(self.size, self.images - i), self.path) for i in starts)

    def pool(self, shard: Shard) -> Pool:
        first = int(shard.name.rpartition("-")[2])
        return pool_of([(f"train:{i}", self._pixels(i)) for i in range(first, first + shard.size)])

    def _pixels(self, row: int) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(_column(self.path)[row].as_py())).convert("RGB"))


_read: dict[str, Any] = {}


def _column(path: str) -> Any:
    """The encoded images of the file, which a process reads once."""
    if path not in _read:
        _read[path] = pq.read_table(path).column(0).combine_chunks().field("bytes")
    return _read[path]


def pool_of(rows: list[tuple[str, np.ndarray]]) -> Pool:
    images = ArrayImages(tuple(id for id, _ in rows), np.stack([pixels for _, pixels in rows]))
    nothing = np.empty(0, dtype=np.int64)
    return Pool(
        "cifar10",
        CLASSES,
        images,
        None,
        LabeledView(images, nothing, nothing),
        (0.49, 0.48, 0.45),
        (0.25, 0.24, 0.26),
        "",
    )


def network(pool: Pool) -> tuple[Model, Strategy]:
    """As it is built, with MCDAL's heads."""
    torch.manual_seed(0)
    model = NUMERICS.place(ResNet().build(10, 3, (32, 32)))
    return model, heads_on(model, pool, NUMERICS)


def heads_on(model: Model, pool: Pool, numerics: Numerics) -> Strategy:
    """MCDAL's, as they are built: what they have learned does not change what they cost."""
    strategy = MCDAL()
    strategy.attach(model, pool.task, Setting(Optimization(), *pool.shape, 1, numerics.place, _no_batches))
    return strategy


def _no_batches(_labeled: bool, _purpose: str, _first: int) -> Any:
    raise AssertionError("nothing is trained here")


def sides(workers: int, threads: int) -> dict[str, Engine | None]:
    """None: this process."""
    return {
        "this process": None,
        "one process": Processes(1, threads),
        f"{workers} processes": Processes(workers, threads),
        f"Ray, {workers} actors": OnRay("local", workers, init={"num_cpus": workers + 1}),
    }


def timed(work: Callable[[], Measured]) -> tuple[float, Measured]:
    begun = time.perf_counter()
    measured = work()
    return time.perf_counter() - begun, measured


def measured(data: Path, images: int, size: int, workers: int, repetitions: int) -> tuple[list[Check], dict[str, Any]]:
    """Each side over all shards, and over one a worker, which is mostly what it costs to begin."""
    path = str(next(iter(sorted(data.glob("train*.parquet")))))
    whole, few = Rows(path, images, size), Rows(path, size * workers, size)
    pool = whole.pool(whole.shards[0])
    model, strategy = network(pool)
    seconds: dict[str, dict[str, list[float]]] = {}
    picks = {}
    with tempfile.TemporaryDirectory() as own:
        for repetition in range(repetitions):
            for name, engine in sides(workers, torch.get_num_threads()).items():
                for what, rows in (("few shards", few), ("all shards", whole)):
                    folder = Path(own) / f"{repetition} {name} {what}"
                    spent, found = timed(
                        lambda rows=rows, folder=folder, engine=engine: measure_shards(
                            model, rows, strategy, folder, numerics=NUMERICS, engine=engine
                        )
                    )
                    assert len(found) == sum(shard.size for shard in rows.shards)
                    seconds.setdefault(name, {}).setdefault(what, []).append(spent)
                picks[name] = top_of(found, TOP, {}).ids
                begun = seconds[name]["few shards"][-1]
                print(f"     {name}: {images / spent:.0f} images a second, {begun:.1f} s for {workers} shards")
    assert len(set(picks.values())) == 1, "the sides picked otherwise"
    plain = statistics.median(
        [timed(lambda: measure(model, pool, {}, strategy, numerics=NUMERICS))[0] for _ in range(repetitions)]  # type: ignore[arg-type, return-value]
    )
    return checks_of(seconds, images, size, workers, plain), {"wall_s": seconds, "pool_in_memory_s": plain}


def checks_of(
    seconds: dict[str, dict[str, list[float]]], images: int, size: int, workers: int, plain: float
) -> list[Check]:
    """Rates, fixed costs, and from how many images on a side is quicker than this process alone."""
    detail, found = f"{images:,} images in shards of {size:,}", []
    lines = {}
    for name, of in seconds.items():
        few, whole = (statistics.median(of[what]) for what in ("few shards", "all shards"))
        an_image = (whole - few) / (images - size * workers)
        if an_image <= 0:
            raise ConfigError(
                f"{name}: all shards took no longer than {workers}: give more --images, on a machine that is free"
            )
        fixed = max(0.0, few - an_image * size * workers)
        lines[name] = fixed, an_image
        found += [
            Check(f"{name}: once begun", 1 / an_image, None, "at least", unit="images/s", detail=detail),
            Check(f"{name}: to begin", fixed, None, "at most", unit="s", detail=detail),
        ]
    here, slope = lines["this process"]
    for name, (fixed, an_image) in lines.items():
        if an_image < slope and fixed > here:
            pays = (fixed - here) / (slope - an_image)
            found.append(Check(f"{name}: pays from", pays, None, "at most", unit="images", detail=detail))
    alone = size / plain
    found.append(Check("one shard in memory, no files", alone, None, "at least", unit="images/s", detail=detail))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with CIFAR-10 as Parquet")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--shard", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "passes.json")
    given = parser.parse_args()
    if given.images < 2 * given.shard * given.workers:
        raise ConfigError(f"--images {given.images}: give at least two shards of {given.shard} a worker")
    found, more = measured(given.data, given.images, given.shard, given.workers, given.repetitions)
    command = (
        f"python benchmarks/passes.py --data DIR --images {given.images} --shard {given.shard} --workers {given.workers} "
        f"--repetitions {given.repetitions}"
    )
    record(given.out, "Measuring a pool in shards", command, found, unit="wall seconds, medians", **more)


if __name__ == "__main__":
    main()
