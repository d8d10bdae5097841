"""The pass that `node_kills.py` kills, and the driver that it starts for it, in a process of its own.

Arguments: a Parquet file of CIFAR-10, images, images a shard, a folder, the address of a Ray cluster.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.passes import NUMERICS, Rows
from mcdal.models.base import Model
from mcdal.models.resnet import ResNet
from mcdal.passes import Engine, Measured, OnRay, measure_shards, pick, top_of
from mcdal.pool.base import Pool
from mcdal.pool.sharded import Shard
from mcdal.strategies.core_set import CoreSet
from mcdal.strategies.tcm import TCM

BUDGET = 300
LABELS = {f"train:{i}": i % 10 for i in range(0, 1_000, 10)}


@dataclass(frozen=True)
class Watched(Rows):
    """Says who opens a shard: a line "shard process parent", which is the raylet of its node, in the file `log`."""

    log: str = ""

    def pool(self, shard: Shard) -> Pool:
        with Path(self.log).open("a") as log:
            log.write(f"{shard.name} {os.getpid()} {os.getppid()}\n")
        return super().pool(shard)


def model() -> Model:
    torch.manual_seed(0)
    return NUMERICS.place(ResNet(10, 32).build(10, 3, (32, 32)))


def measured(rows: Watched, folder: Path, engine: Engine | None, listen: Callable[..., None]) -> Measured:
    """TCM's measurements: a score, features and probabilities. engine None: this process."""
    return measure_shards(model(), rows, TCM(), folder, numerics=NUMERICS, engine=engine, listen=listen)


def picks_of(found: Measured) -> dict[str, list[str]]:
    """By the largest score, and by a choice over all features."""
    return {
        "largest scores": list(top_of(found, BUDGET, LABELS).ids),
        "core-set": list(pick(CoreSet(), found, BUDGET, LABELS).ids),
    }


def tell(kind: str, **fields: object) -> None:
    print(json.dumps({"kind": kind, **fields}), flush=True)


def main() -> None:
    torch.set_num_threads(1)
    path, images, size, folder, address = sys.argv[1:]
    rows = Watched(path, int(images), int(size), log=f"{folder}/log.txt")
    found = measured(rows, Path(folder) / "pass", OnRay(address), tell)
    tell("end", rows=len(found), resumed=found.resumed, picks=picks_of(found))


if __name__ == "__main__":
    main()
