"""The indexes of all shards as one: ids, classes and places of the pool and of its test images, memory-mapped."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt64

from mcdal.errors import PoolError
from mcdal.events import Listener
from mcdal.ids import IdsWriter, MappedIds
from mcdal.pool import cache as caches
from mcdal.pool.streaming.classes import targets_of
from mcdal.pool.streaming.format import Places
from mcdal.pool.streaming.index import Index, Indexed, Listed
from mcdal.pool.streaming.split import Split


@dataclass(frozen=True, eq=False)
class JoinedPart:
    """All samples of the pool, or of the test, in the order of the shards. starts: where those of each begin, and the end."""

    folder: Path

    def __reduce__(self) -> tuple[type["JoinedPart"], tuple[Path]]:
        return JoinedPart, (self.folder,)  # not what has been mapped

    @cached_property
    def ids(self) -> MappedIds:
        return MappedIds(self.folder)

    @cached_property
    def places(self) -> Places:
        places: Places = self._mapped("places")
        return places

    @cached_property
    def targets(self) -> Int[np.ndarray, " n"]:
        """-1 where there is no label."""
        targets: Int[np.ndarray, " n"] = self._mapped("targets")
        return targets

    @cached_property
    def starts(self) -> Int[np.ndarray, " s"]:
        starts: Int[np.ndarray, " s"] = np.load(self.folder / "starts.npy")
        return starts

    def _mapped(self, name: str) -> Any:
        # Copy-on-write: torch warns of memory that may not be written, and nothing is ever written back.
        return np.load(self.folder / f"{name}.npy", mmap_mode="c")


@dataclass(frozen=True, eq=False)
class Joined:
    pool: JoinedPart
    test: JoinedPart


def join(
    index: Index,
    shards: Sequence[Indexed],
    split: Split,
    classes: Sequence[str],
    cache: Path,
    key: str,
    listen: Listener,
) -> Joined:
    """Built once in the cache. PoolError for an id that comes twice, and for a label that is no class; both are named."""

    def twice(id: str) -> None:
        raise PoolError(f"the id {id!r} stands for two samples{_where(index, shards, id)}; ids must be unique")

    def build(folder: Path) -> None:
        with ExitStack() as stack:
            writers = [stack.enter_context(closing(_Writer(folder / part, twice))) for part in ("pool", "test")]
            for done, shard in enumerate(shards):
                listen("prepare", done=done, total=len(shards), what="joining the index")
                _add(writers, shard, index.read(shard), split, classes)
            pool, test = (writer.finish() for writer in writers)
        if (both := next(test.shared(pool), None)) is not None:
            raise PoolError(
                f"the id {both!r} is in the pool and in the test{_where(index, shards, both)}; ids must be unique"
            )
        caches.write_index(folder, {"shards": len(shards)})

    folder = caches.entry(cache, key, build, listen)
    return Joined(JoinedPart(folder / "pool"), JoinedPart(folder / "test"))


def _add(writers: "list[_Writer]", shard: Indexed, listed: Listed, split: Split, classes: Sequence[str]) -> None:
    """The samples of one shard to the pool's and the test's."""
    test = split.test(shard.name, listed.hashes)
    targets = targets_of(shard, listed.ids, listed.labels, classes)
    for writer, chosen in zip(writers, (~test, test), strict=True):
        rows = np.flatnonzero(chosen)
        ids = listed.ids if len(rows) == len(listed.ids) else listed.ids.take(rows)
        writer.add(ids, listed.hashes[rows], listed.places[rows], targets[rows])


class _Writer:
    """One part, shard by shard."""

    def __init__(self, folder: Path, twice: Callable[[str], None]):
        self._folder = folder
        self._ids = IdsWriter(folder, twice)
        self._raw = {name: (folder / f"{name}.raw").open("wb") for name in ("places", "targets")}
        self._starts = [0]

    def add(self, ids: Any, hashes: UInt64[np.ndarray, " n"], places: Places, targets: Int[np.ndarray, " n"]) -> None:
        self._ids.add(ids, hashes)
        self._raw["places"].write(np.ascontiguousarray(places).tobytes())
        self._raw["targets"].write(targets.tobytes())
        self._starts.append(self._starts[-1] + len(hashes))

    def close(self) -> None:
        self._ids.close()
        for file in self._raw.values():
            file.close()

    def finish(self) -> MappedIds:
        n = self._starts[-1]
        np.save(self._folder / "starts.npy", np.array(self._starts))
        for name, shape in (("places", (n, 2)), ("targets", (n,))):
            self._raw[name].close()
            _as_npy(self._folder / f"{name}.raw", self._folder / f"{name}.npy", shape)
        return self._ids.finish()


def _as_npy(raw: Path, npy: Path, shape: tuple[int, ...]) -> None:
    """The same numbers behind a header that says how many they are."""
    made = np.lib.format.open_memmap(npy, "w+", np.int64, shape)
    if shape[0]:
        made[:] = np.memmap(raw, np.int64, "r", shape=shape)
    made.flush()
    raw.unlink()


def _where(index: Index, shards: Sequence[Indexed], id: str) -> str:
    """The first two shards that have it."""
    import pyarrow.compute as pc

    having = (shard.name for shard in shards if pc.index(index.read(shard, ["sample_id"]).ids, id).as_py() >= 0)
    return f" ({', '.join(islice(having, 2))})"
