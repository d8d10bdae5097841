"""A pass of the engine over features on the disk, and the choice from the files that it leaves: for million.py."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.passes import heads_on
from mcdal.device import Numerics
from mcdal.models.base import Model
from mcdal.models.probe import Probe
from mcdal.passes import Measured, measure_shards, top_of
from mcdal.pool.base import ArrayImages, LabeledView, Pool
from mcdal.pool.sharded import Shard, Sharded
from mcdal.strategies.base import Strategy

NUMERICS = Numerics(torch.device("cpu"), "float32", channels_last=False, compile=False)
BATCH = 4_096


@dataclass(frozen=True)
class Features(Sharded):
    """A shard is a file of rows, each of which passes for an image of one pixel."""

    files: tuple[str, ...]
    size: int
    classes: int

    @property
    def shards(self) -> tuple[Shard, ...]:  # type: ignore[override]
        return tuple(Shard(Path(file).stem, self.size, "as it was made") for file in self.files)

    def pool(self, shard: Shard) -> Pool:
        number = [Path(file).stem for file in self.files].index(shard.name)
        kept = torch.from_numpy(
            np.load(self.files[number], mmap_mode="c")
        )  # torch widens float16 many times as fast as numpy
        rows = kept.float()[:, None, None, :].numpy()
        images = ArrayImages(tuple(f"{number * self.size + i:09d}" for i in range(len(rows))), rows)
        nothing = np.empty(0, dtype=np.int64)
        classes = tuple(str(c) for c in range(self.classes))
        test = LabeledView(images, nothing, nothing)
        return Pool("rows", classes, images, None, test, (0.0,) * rows.shape[-1], (1.0,) * rows.shape[-1], "")


def network(sharded: Features, channels: int) -> tuple[Model, Strategy]:
    """A head and MCDAL's two."""
    torch.manual_seed(0)
    model = NUMERICS.place(Probe().build(sharded.classes, channels, (1, 1)))
    return model, heads_on(model, sharded.pool(sharded.shards[0]), NUMERICS)


def scored(sharded: Features, channels: int, folder: Path) -> Measured:
    """MCDAL's scores of all rows in files; of those that are there, none is made again."""
    model, strategy = network(sharded, channels)
    return measure_shards(model, sharded, strategy, folder, numerics=NUMERICS, batch_size=BATCH)


def a_pass(sharded: Features, channels: int, folder: Path) -> Callable[[], object]:
    """From nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    return lambda: scored(sharded, channels, folder)


def choice(sharded: Features, channels: int, folder: Path, budget: int, labeled: int) -> Callable[[], object]:
    """The largest scores of a pass that is over."""
    measured = scored(sharded, channels, folder)
    labels = {f"{i:09d}": 0 for i in range(labeled)}
    return lambda: top_of(measured, budget, labels)
