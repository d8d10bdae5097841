"""A driver that tests kill. Arguments: folder, workers (or "ray"), address of a cluster, seconds that opening a shard takes."""

import json
import sys
from pathlib import Path

import torch

from mcdal.passes import OnRay, measure_shards
from mcdal.strategies.margin import Margin
from mcdal.testing import NUMERICS, FakeModel
from tests.passes.sharded import watched


def model():
    torch.manual_seed(0)
    return FakeModel(3)


def tell(kind, **fields):
    print(json.dumps({"kind": kind, **fields}), flush=True)  # noqa: T201


def main() -> None:
    folder, workers, address, seconds = sys.argv[1:]
    engine = OnRay(address=address, cpus=0.5) if workers == "ray" else None
    measured = measure_shards(
        model(), watched(Path(folder), seconds=float(seconds)), Margin(), Path(folder) / "pass", numerics=NUMERICS,
        workers=1 if workers == "ray" else int(workers), engine=engine, listen=tell,
    )  # fmt: skip
    tell("end", rows=len(measured), resumed=measured.resumed)


if __name__ == "__main__":
    main()
