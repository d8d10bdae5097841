"""Photographs in shards, read at 224 pixels: images a second of a core, listing them, and a pass of ResNet-18 over them.

The scenes of CamVid at 480x360 as JPEGs of some 60 kB, as often as `--copies` says, in tars and in Parquet. One thread of this
process decodes: what a core takes is what a plan for many cores wants to know. Process CPU time; the files lie in the system's
memory, as a disk or a network that keeps up would have them.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/reading.py --data CAMVID
"""

import argparse
import io
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.passes import heads_on
from benchmarks.side_by_side import RESULTS, Check, record
from mcdal.device import Numerics
from mcdal.measuring import measure
from mcdal.models.torchvision import Torchvision
from mcdal.pool.base import ArrayImages, LabeledView, Pool
from mcdal.pool.streaming.source import Shards

SIZE, BATCH, ROWS_A_GROUP = 224, 64, 100
NUMERICS = Numerics(torch.device("cpu"), "float32", channels_last=True, compile=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with CamVid's train, val and test")
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--forward", type=int, default=256, help="images that the network sees")
    parser.add_argument("--small", type=int, default=200_000, help="images that are listed")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "reading.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    pictures = list(jpegs(given.data))
    checks = []
    with tempfile.TemporaryDirectory() as own:
        for kind, write in (("tar", tars), ("parquet", parquets)):
            folder = Path(own) / kind
            folder.mkdir()
            write(folder, pictures, given.copies)
            images = len(pictures) * given.copies
            rate = statistics.median(
                read(folder, kind, Path(own) / f"cache {kind} {i}", images) for i in range(given.repetitions)
            )
            detail = f"{images:,} JPEGs of {sum(map(len, pictures)) / len(pictures) / 1e3:.0f} kB, one thread"
            checks.append(Check(f"{kind}: read at 224 pixels", rate, None, "at least", unit="images/s", detail=detail))
            checks += listed(Path(own) / f"small {kind}", kind, write, given.small)
        checks += forward(Path(own) / "tar", Path(own) / "cache", given.forward, given.repetitions)
    command = f"python benchmarks/reading.py --data CAMVID --copies {given.copies} --forward {given.forward}"
    record(given.out, "Photographs in shards", command, checks, unit="process CPU seconds, medians")


def jpegs(data: Path) -> Iterator[bytes]:
    paths = sorted(path for part in ("train", "val", "test") for path in (data / part).iterdir())
    if not paths:
        raise SystemExit(f"{data}: no images in train, val and test")
    for path in paths:
        room = io.BytesIO()
        Image.open(path).convert("RGB").save(room, "JPEG", quality=90)
        yield room.getvalue()


def tars(folder: Path, pictures: list[bytes], copies: int) -> None:
    for copy in range(copies):
        with tarfile.open(folder / f"{copy:03d}.tar", "w") as tar:
            for i, picture in enumerate(pictures):
                member = tarfile.TarInfo(f"{copy}-{i:05d}.jpg")
                member.size = len(picture)
                tar.addfile(member, io.BytesIO(picture))


def parquets(folder: Path, pictures: list[bytes], copies: int) -> None:
    for copy in range(copies):
        rows = pa.table({"id": [f"{copy}-{i:05d}" for i in range(len(pictures))], "image": pictures})
        pq.write_table(rows, folder / f"{copy:03d}.parquet", row_group_size=ROWS_A_GROUP, compression="none")


def opened(folder: Path, kind: str, cache: Path, size: int = SIZE) -> Pool:
    classes, ids = ("a", "b"), "id" if kind == "parquet" else None
    source = Shards(
        folder,
        size=SIZE,
        channels=3,
        workers=1,
        scanners=1,
        label_column=None,
        classes=classes,
        id_column=ids,
        test_share=0.0,
    )
    return source.open(cache)


def read(folder: Path, kind: str, cache: Path, images: int) -> float:
    """Images a second, decoded and scaled, from the first shard to the last."""
    pool = opened(folder, kind, cache)
    assert pool.sharded is not None
    begun, seen = time.process_time(), 0
    for shard in pool.sharded.shards:
        part = pool.sharded.pool(shard)
        rows = [np.arange(i, min(i + BATCH, len(part))) for i in range(0, len(part), BATCH)]
        seen += sum(len(x) for x in part.images.batches(rows, torch.device("cpu")))
    assert seen == images, f"{seen} of {images} images were read"
    return images / (time.process_time() - begun)


def listed(folder: Path, kind: str, write: Callable[[Path, list[bytes], int], None], images: int) -> list[Check]:
    """Opening a pool of many small images: listing them all, and looking at 2,048. And how large the index is."""
    folder.mkdir()
    room = io.BytesIO()
    Image.new("RGB", (32, 32)).save(room, "JPEG")
    write(folder, [room.getvalue()] * (images // 2), 2)
    cache = folder.with_name(f"{folder.name} cache")
    seconds = timed(lambda: opened(folder, kind, cache, 32))
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    detail = f"{images:,} small images, one thread"
    return [
        Check(f"{kind}: listed", images / seconds, None, "at least", unit="images/s", detail=detail),
        Check(f"{kind}: index", size / images, None, "at most", unit="bytes an image", detail=detail),
    ]


def forward(folder: Path, cache: Path, images: int, repetitions: int) -> list[Check]:
    """MCDAL's discrepancy by ResNet-18 at 224 pixels: images that lie in memory, so that the network alone is timed."""
    pool = opened(folder, "tar", cache)
    assert pool.sharded is not None
    shard = pool.sharded.pool(pool.sharded.shards[0])
    rows = [np.arange(i, i + BATCH) for i in range(0, images - images % BATCH, BATCH)]
    held = torch.cat(list(shard.images.batches(rows, torch.device("cpu"))))
    memory = in_memory(pool, held)
    torch.manual_seed(0)
    model = NUMERICS.place(Torchvision("resnet18").build(2, 3, (SIZE, SIZE)))
    strategy = heads_on(model, pool, NUMERICS)
    seconds = [
        timed(lambda: measure(model, memory, {}, strategy, numerics=NUMERICS, batch_size=BATCH))
        for _ in range(repetitions)
    ]
    detail = f"MCDAL's discrepancy of {len(held)} images in float32, one thread"
    rate = len(held) / statistics.median(seconds)
    return [Check("ResNet-18 at 224 pixels", rate, None, "at least", unit="images/s", detail=detail)]


def in_memory(pool: Pool, x: torch.Tensor) -> Pool:
    images = ArrayImages(tuple(map(str, range(len(x)))), x.permute(0, 2, 3, 1).contiguous().numpy())
    nothing = np.empty(0, dtype=np.int64)
    return replace(pool, images=images, test=LabeledView(images, nothing, nothing), sharded=None)


def timed(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
