"""Millions of rows of 512 features on the disk, in float16: what a choice takes, beside what the disk and the memory allow.

Files of 50,000 rows lie in `--work` (made once; 1 GB a million, and 20 MB of logits), like pooled features of a network. In fresh
processes of one thread each: Margin over logits, core-set, BADGE and MCDAL post hoc (the fit on a sample and the scores of all
apart), a batch of 1,000 from 1,000 labels; a pass of the engine in shards (million_pass.py), and the largest scores of the files
that it leaves; TypiClust and FALCUN a batch of 100, ProbCover one in as many parts as two minutes of a core allow. Peaks are of
memory beyond what the process held when it began: without pages of mapped files, and with them, which the system takes back when
it needs them. Beside them the files read once, cold and warm, and one product of all rows with 80 columns, as many as four pairs
of heads on ten classes have.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/million.py --work FOLDER [--rows 1000000 10000000]
"""

import argparse
import gc
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from benchmarks.million_pass import Features, a_pass
from benchmarks.million_pass import choice as top_b
from benchmarks.selection import features
from benchmarks.side_by_side import RESULTS, Check, record
from mcdal.measuring import select
from mcdal.outputs import select_from
from mcdal.selection.k_center import chunks, part
from mcdal.selection.search import Search
from mcdal.stack import Stack
from mcdal.strategies.badge import Badge
from mcdal.strategies.base import Strategy
from mcdal.strategies.core_set import CoreSet
from mcdal.strategies.falcun import Falcun
from mcdal.strategies.mcdal_posthoc import MCDALPosthoc
from mcdal.strategies.probcover import ProbCover
from mcdal.strategies.typiclust import TypiClust
from mcdal.values import Rows

D, CLASSES, SHARD, LABELED, BUDGET = 512, 10, 50_000, 1_000, 1_000
SAMPLE = 100_000
GIB = 4.0
"""What a choice may take beyond the rows on the disk."""
DISTINCT = 20
"""Files of other numbers; from then on they come again, shifted a little."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder with room: 1.1 GB for each million rows")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--dtype", default="float16", choices=["float16", "float32"], help="of the features")
    parser.add_argument("--whole-fit", action="store_true", help="MCDAL's heads on all rows as well: minutes")
    parser.add_argument("--only", nargs="*", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--add", action="store_true", help="to the steps and sizes that the result has")
    parser.add_argument("--out", type=Path, default=RESULTS / "million.json")
    given = parser.parse_args()
    before = json.loads(given.out.read_text())["rows"] if given.add else {}
    found: dict[int, dict[str, dict[str, float]]] = {int(rows): steps for rows, steps in before.items()}
    steps = [name for name in given.only if name != "MCDAL post hoc, fit on all" or given.whole_fit]
    work = given.work / given.dtype
    for rows in given.rows:
        make(work, rows, np.dtype(given.dtype))
        found.setdefault(rows, {}).update({name: measured(name, work, rows) for name in steps})
    found = {rows: found[rows] for rows in sorted(found)}
    checks = [check for rows, steps in found.items() for check in of_size(rows, steps)]
    if len(found) > 1:
        checks += growth(found)
    command = f"benchmarks/million.py --rows {' '.join(map(str, found))} --dtype {given.dtype}"
    by_rows = {str(rows): steps for rows, steps in found.items()}
    record(given.out, "Choices from millions of rows on the disk", command, checks, dtype=given.dtype, rows=by_rows)


def make(work: Path, rows: int, kind: np.dtype) -> None:
    """The files that are not there yet."""
    work.mkdir(parents=True, exist_ok=True)
    if rows % SHARD:
        raise SystemExit(f"--rows {rows}: give a multiple of {SHARD:,}")
    weights = np.random.default_rng(3).standard_normal((D, CLASSES)).astype(np.float32)
    for i in range(rows // SHARD):
        vector, logits = (work / f"{kind}-{i:05d}.npy" for kind in ("vector", "logits"))
        if logits.exists():
            continue
        if shutil.disk_usage(work).free < 2 * SHARD * D * kind.itemsize:
            raise SystemExit(f"{work}: the disk is full; {rows // SHARD - i} of {rows // SHARD} files are missing")
        x = features(SHARD, "network", seed=i % DISTINCT)
        if i >= DISTINCT:
            x += np.float32(0.05) * np.random.default_rng(i).standard_normal((1, D)).astype(np.float32)
        write(vector, x.astype(kind))
        made = (x - x.mean(0)) @ weights
        write(logits, (4 * made / made.std()).astype(np.float16))  # last: it says that both are there


def write(path: Path, array: np.ndarray) -> None:
    """On the disk when it is done, so that its pages can be dropped."""
    with path.with_suffix(".part").open("wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())
    path.with_suffix(".part").replace(path)


def files(work: Path, rows: int, kind: str) -> list[Path]:
    return [work / f"{kind}-{i:05d}.npy" for i in range(rows // SHARD)]


def stack(work: Path, rows: int, kind: str) -> Stack:
    return Stack.of_files(files(work, rows, kind))


def pool(work: Path, rows: int) -> Rows:
    """With probabilities in memory, as a measuring pass leaves them."""
    labeled = np.zeros(rows, dtype=bool)
    labeled[np.random.default_rng(1).permutation(rows)[:LABELED]] = True
    logits = stack(work, rows, "logits")
    p = np.empty((rows, CLASSES), dtype=np.float32)
    for where in chunks(rows):
        p[where] = part(logits, where).softmax(1).numpy()
    y = np.where(labeled, p.argmax(1), -1)
    return Rows(
        tuple(f"{i:08d}" for i in range(rows)), labeled, vector=stack(work, rows, "vector"), probabilities=p, y=y
    )


def read(work: Path, rows: int, cold: bool) -> float:
    """Seconds to read all features once; cold: after the system was asked to drop their pages."""
    paths = files(work, rows, "vector")
    for path in paths if cold else ():
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    room, begun = bytearray(1 << 23), time.perf_counter()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(room):
                pass
    return time.perf_counter() - begun


def product(work: Path, rows: int) -> None:
    """All rows with 80 columns."""
    table, columns = stack(work, rows, "vector"), torch.randn(D, 8 * CLASSES)
    for where in chunks(rows):
        part(table, where) @ columns


def margin(work: Path, rows: int) -> None:
    labeled = np.arange(rows) < LABELED
    select_from("margin", BUDGET, logits=stack(work, rows, "logits"), labeled=labeled)


def choice(strategy: Strategy) -> Callable[[Path, int], Callable[[], object]]:
    """Rows are made before the measurement."""

    def prepare(work: Path, rows: int) -> Callable[[], object]:
        made = pool(work, rows)
        return lambda: select(strategy, made, BUDGET)

    return prepare


def scoring(work: Path, rows: int) -> Callable[[], object]:
    """Of all rows by heads that are hardly trained, which takes as long."""
    made = pool(work, rows)
    return lambda: select(MCDALPosthoc(passes=1, sample=2_048), made, BUDGET)


def parted(strategy: Strategy, budget: int, search: Search) -> Callable[[Path, int], Callable[[], object]]:
    def prepare(work: Path, rows: int) -> Callable[[], object]:
        made = replace(pool(work, rows), score=np.random.default_rng(2).random(rows, dtype=np.float32))
        return lambda: print(dict(select(strategy, made, budget, search=search).searched), flush=True)

    return prepare


def bare(step: Callable[[Path, int], object]) -> Callable[[Path, int], Callable[[], object]]:
    return lambda work, rows: lambda: step(work, rows)


def sharded(work: Path, rows: int) -> Features:
    return Features(tuple(str(path) for path in files(work, rows, "vector")), SHARD, CLASSES)


STEPS: dict[str, Callable[[Path, int], Callable[[], object]]] = {
    "read, cold": bare(lambda work, rows: read(work, rows, cold=True)),
    "read, warm": bare(lambda work, rows: read(work, rows, cold=False)),
    "product with 80 columns": bare(product),
    "Margin over logits": bare(margin),
    "a pass: MCDAL's scores into files": lambda work, rows: a_pass(sharded(work, rows), D, work / f"pass-{rows}"),
    "top-b of these files": lambda work, rows: top_b(sharded(work, rows), D, work / f"pass-{rows}", BUDGET, LABELED),
    "core-set": choice(CoreSet()),
    "BADGE": choice(Badge()),
    "TypiClust": parted(TypiClust(), 100, Search()),
    "FALCUN": parted(Falcun(), 100, Search()),
    "ProbCover in parts": parted(ProbCover(delta=0.3), 100, Search(minutes=2.0)),
    "MCDAL post hoc, scores": scoring,
    f"MCDAL post hoc, fit on {SAMPLE:,}": choice(MCDALPosthoc(sample=SAMPLE)),
    "MCDAL post hoc, fit on all": choice(MCDALPosthoc(pairs=1)),
}


def measured(name: str, work: Path, rows: int) -> dict[str, float]:
    with get_context("spawn").Pool(1) as processes:
        found: dict[str, float] = processes.apply(_measured, (name, work, rows))
    print(name, f"{rows:,}", {k: round(v, 2) for k, v in found.items()}, flush=True)
    return found


def _measured(name: str, work: Path, rows: int) -> dict[str, float]:
    """Seconds by the clock and of the processor; peaks in MB beyond the start, without pages of files and with them."""
    torch.set_num_threads(1)
    step = STEPS[name](work, rows)
    gc.collect()
    before, highest, over = held(), held(), threading.Event()

    def watch() -> None:
        nonlocal highest
        while not over.wait(0.005):
            highest = np.maximum(highest, held())

    watcher = threading.Thread(target=watch)
    watcher.start()
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    over.set()
    watcher.join()
    own, whole = ((highest - before) / 2**20).tolist()
    size = float(sum(path.stat().st_size for path in files(work, rows, "vector")))
    return {"wall": wall, "cpu": cpu, "peak": own, "peak_with_files": whole, "bytes": size}


def held() -> np.ndarray:
    """Bytes of this process in memory: its own, and with pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    numbers = {
        line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon", "VmRSS"))
    }
    return np.array([numbers["RssAnon"], numbers["VmRSS"]], dtype=np.float64)


def of_size(rows: int, steps: dict[str, dict[str, float]]) -> list[Check]:
    made = []
    for name, found in steps.items():
        detail = f"{found['cpu']:.3g} CPU s; {found['peak']:.0f} MB at most, {found['peak_with_files']:.0f} with pages of files"
        if name.startswith("read"):
            detail = f"{found['bytes'] / 1e9 / found['wall']:.2g} GB/s"
        made.append(Check(f"{name}, {rows:,} x {D}", found["wall"], None, "at most", unit="s", detail=detail))
        if not name.startswith("read"):
            peak = max(found["peak"], found["peak_with_files"]) / 1024
            made.append(Check(f"memory of {name}, {rows:,} x {D}", peak, GIB, "at most", unit="GiB"))
    return made


def growth(found: dict[int, dict[str, dict[str, float]]]) -> list[Check]:
    """Processor time of the most rows over that of the least, as a share of how many times as many there are."""
    few, many = min(found), max(found)
    return [
        Check(
            f"{name}: CPU time a row, {many:,} / {few:,} rows", found[many][name]["cpu"] / found[few][name]["cpu"] / (many / few),
            1.5, "at most",
        )
        for name in found[few] if not name.startswith("read") and name in found[many]
    ]  # fmt: skip


if __name__ == "__main__":
    main()
