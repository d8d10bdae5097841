"""Ids of a large pool: on the disk, memory-mapped, read as a sequence of text like a tuple."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np
from jaxtyping import Int, Shaped, UInt64

from mcdal.hashes import hashed

BLOCK = 1 << 16
"""Ids in a batch of the file, all but the last."""
SORTED_AT_ONCE = 1 << 22
"""Hashes that are sorted in memory at a time."""
TAKEN_FROM = 1 << 17
"""Ids from which on some of them are not a tuple of their own."""

Positions = Int[np.ndarray, " n"]


class MappedIds(Sequence[str]):
    """Ids in `folder`: `ids.arrow` in their order; `hash.npy`, sorted, and `order.npy`, where each of these stands.

    Equal to a tuple of the same ids, and hashed like it (slowly). A slice is a tuple. Pickled as the folder's path.
    places: some of these ids alone, ascending, as `take` makes them.
    """

    def __init__(self, folder: Path, places: Positions | None = None):
        import pyarrow

        file = pyarrow.memory_map(str(folder / "ids.arrow"))
        tables = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("hash", "order"))
        self._open(folder, places, file, *tables)

    def _open(
        self,
        folder: Path,
        places: Positions | None,
        file: Any,
        hashes: UInt64[np.ndarray, " all"],
        order: Shaped[np.ndarray, " all"],
    ) -> None:
        import pyarrow

        self._folder, self._places = folder, places
        self._content = file
        self._file = pyarrow.ipc.open_file(pyarrow.py_buffer(file) if isinstance(file, np.ndarray) else file)
        self._hashes, self._order = hashes, order
        self._views: list[tuple[Any, memoryview] | None] = [None] * self._file.num_record_batches

    def __len__(self) -> int:
        return len(self._hashes if self._places is None else self._places)

    @overload
    def __getitem__(self, place: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...
    def __getitem__(self, place: SupportsIndex | slice) -> str | tuple[str, ...]:
        if isinstance(place, slice):
            first, last, step = place.indices(len(self))
            if step == 1:
                return tuple(islice(self._from(first), max(last - first, 0)))
            return tuple(self._one(self._base(i)) for i in range(first, last, step))
        i = place.__index__()
        i = i + len(self) if i < 0 else i
        if not 0 <= i < len(self):
            raise IndexError(f"id {i} of {len(self)}")
        return self._one(self._base(i))

    def __iter__(self) -> Iterator[str]:
        return self._from(0)

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and self.position(id) >= 0

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        whole = self._places is None
        if whole and isinstance(other, MappedIds) and other._places is None and other._folder == self._folder:
            return True
        if not isinstance(other, tuple | MappedIds) or len(other) != len(self):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"MappedIds({len(self)} in {self._folder})"

    def __reduce__(self) -> tuple[type["MappedIds"], tuple[Path, Positions | None]]:
        return MappedIds, (self._folder, self._places)

    def parts(self) -> tuple[Any, ...]:
        """All that `of_parts` needs, as arrays: for a process that does not see the folder."""
        sent = isinstance(self._content, np.ndarray)
        file = self._content if sent else np.memmap(self._folder / "ids.arrow", np.uint8, "c")
        return self._folder, self._places, file, self._hashes, self._order

    @classmethod
    def of_parts(cls, *parts: Any) -> "MappedIds":
        """The same ids; the folder is then but a name."""
        made = cls.__new__(cls)
        made._open(*parts)
        return made

    def take(self, positions: Positions) -> "tuple[str, ...] | MappedIds":
        """These, in this order: a tuple, but for many that keep the order of the file."""
        if len(positions) < TAKEN_FROM or not (np.diff(positions) > 0).all():
            return tuple(map(self.__getitem__, positions.tolist()))
        places = positions if self._places is None else self._places[positions]
        return MappedIds.of_parts(self._folder, places, self._content, self._hashes, self._order)

    def index(self, id: str, start: int = 0, stop: int | None = None) -> int:
        place = self.position(id)
        if place < start or (stop is not None and place >= stop):
            raise ValueError(f"{id!r} is not in the ids")
        return place

    def position(self, id: str) -> int:
        """Where the id stands; -1 where it is not."""
        return int(self.positions([id])[0])

    def positions(self, ids: Sequence[str]) -> Positions:
        """Where each id stands; -1 of those that are not there."""
        wanted = hashed(ids)
        left = np.searchsorted(self._hashes, wanted, "left")
        right = np.searchsorted(self._hashes, wanted, "right")
        found = np.full(len(ids), -1)
        for i in np.flatnonzero(right > left).tolist():
            places = self._order[left[i] : right[i]].tolist()
            found[i] = next((place for place in places if self._one(place) == ids[i]), -1)
        if self._places is None or not len(self._places):
            return found if self._places is None else np.full(len(ids), -1)
        at = np.minimum(np.searchsorted(self._places, found), len(self._places) - 1)
        return np.where(self._places[at] == found, at, -1)

    def shared(self, other: "MappedIds") -> Iterator[str]:
        """Ids that are in both, compared where their hashes meet."""
        for start in range(0, len(self), BLOCK):
            some = self._hashes[start : start + BLOCK]
            left = np.searchsorted(other._hashes, some)
            met = np.flatnonzero((left < len(other)) & (other._hashes[np.minimum(left, len(other) - 1)] == some))
            yield from (id for i in met.tolist() if (id := self._one(int(self._order[start + i]))) in other)

    def blocks(self) -> Iterator[list[str]]:
        """All ids, many at a time."""
        if self._places is not None:
            yield from self._some(self._places)
            return
        for number in range(self._file.num_record_batches):
            yield self._file.get_batch(number).column(0).to_pylist()

    def pieces(self) -> Iterator[bytes]:
        """What `repr` of the tuple of all ids would be, as bytes: for digests."""
        yield b"("
        for number, block in enumerate(self.blocks()):
            yield (", " if number else "").encode() + repr(block)[1:-1].encode()
        yield b",)" if len(self) == 1 else b")"

    def _from(self, first: int) -> Iterator[str]:
        if self._places is not None:
            for block in self._some(self._places[first:]):
                yield from block
            return
        for number in range(first // BLOCK, self._file.num_record_batches):
            column = self._file.get_batch(number).column(0)
            yield from column.slice(max(first - number * BLOCK, 0)).to_pylist()

    def _some(self, places: Positions) -> Iterator[list[str]]:
        """Those at these places of the file, ascending."""
        import pyarrow

        borders = np.searchsorted(places, np.arange(0, len(self._hashes) + BLOCK, BLOCK)).tolist()
        for number, (first, last) in enumerate(pairwise(borders)):
            if last > first:
                inside = pyarrow.array(places[first:last] - number * BLOCK)
                yield self._file.get_batch(number).column(0).take(inside).to_pylist()

    def _base(self, i: int) -> int:
        """Where it stands in the file."""
        return i if self._places is None else int(self._places[i])

    def _one(self, i: int) -> str:
        number, inside = divmod(i, BLOCK)
        view = self._views[number]
        if view is None:
            column = self._file.get_batch(number).column(0)
            _, starts, content = column.buffers()
            view = np.frombuffer(starts, np.int32, len(column) + 1), memoryview(content or b"")
            self._views[number] = view  # of memory that is mapped, not copied
        offsets, text = view
        return str(text[offsets[inside] : offsets[inside + 1]], "utf-8")


def places_of(ids: Sequence[str], wanted: Collection[str]) -> Positions:
    """Where these stand, ascending; those that are not among the ids are passed over."""
    if isinstance(ids, MappedIds):
        found = ids.positions(list(wanted))
        return np.sort(found[found >= 0])
    return np.fromiter((i for i, id in enumerate(ids) if id in wanted), dtype=np.int64)


def ids_at(ids: tuple[str, ...] | MappedIds, positions: Positions) -> tuple[str, ...] | MappedIds:
    """Those at these positions, in this order."""
    return ids.take(positions) if isinstance(ids, MappedIds) else tuple(map(ids.__getitem__, positions.tolist()))


class IdsWriter:
    """Writes what `MappedIds` reads, block by block. twice: called with an id that came twice; it must raise."""

    def __init__(self, folder: Path, twice: Callable[[str], None]):
        import pyarrow

        self._folder, self._twice, self._count = folder, twice, 0
        folder.mkdir(parents=True, exist_ok=True)
        schema = pyarrow.schema({"sample_id": pyarrow.string()})
        self._file = pyarrow.ipc.new_file(str(folder / "ids.arrow"), schema)
        self._raw = (folder / "hash.raw").open("wb")
        self._waiting: list[Any] = []

    def add(self, ids: Any, hashes: UInt64[np.ndarray, " n"]) -> None:
        """ids: a pyarrow array of text, or text itself."""
        import pyarrow

        self._waiting.append(ids if isinstance(ids, pyarrow.Array) else pyarrow.array(list(ids), pyarrow.string()))
        self._raw.write(hashes.tobytes())
        self._count += len(hashes)
        if sum(map(len, self._waiting)) >= BLOCK:
            self._flush(BLOCK)

    def close(self) -> None:
        """Lets go of the files, finished or not."""
        self._file.close()
        self._raw.close()

    def finish(self) -> MappedIds:
        """The finished ids; those with equal hashes have been compared."""
        self._flush(1)
        self.close()
        self._sort()
        (self._folder / "hash.raw").unlink()
        ids = MappedIds(self._folder)
        for id in self._repeated(ids):
            self._twice(id)
        return ids

    def _flush(self, least: int) -> None:
        import pyarrow

        joined = pyarrow.concat_arrays(self._waiting) if self._waiting else pyarrow.array([], pyarrow.string())
        while len(joined) >= least:
            self._file.write(pyarrow.record_batch({"sample_id": pyarrow.concat_arrays([joined[:BLOCK]])}))
            joined = joined[BLOCK:]
        self._waiting = [joined] if len(joined) else []

    def _sort(self) -> None:
        """By ranges of the hash, each small enough for memory."""
        n = self._count
        raw = np.memmap(self._folder / "hash.raw", np.uint64, "r", shape=(n,)) if n else np.empty(0, dtype=np.uint64)
        bits = max(0, (max(n, 1) // SORTED_AT_ONCE).bit_length())
        kind = np.uint32 if n < 2**32 else np.int64
        hashes = np.lib.format.open_memmap(self._folder / "hash.npy", "w+", np.uint64, (n,))
        order = np.lib.format.open_memmap(self._folder / "order.npy", "w+", kind, (n,))
        done = 0
        for number in range(1 << bits):
            places = np.concatenate([np.empty(0, dtype=np.int64), *_of_range(raw, number, bits)])
            some = raw[places]
            by_hash = np.argsort(some, kind="stable")
            hashes[done : done + len(some)], order[done : done + len(some)] = some[by_hash], places[by_hash]
            done += len(some)
        hashes.flush()
        order.flush()

    def _repeated(self, ids: MappedIds) -> Iterator[str]:
        for start in range(0, len(ids), SORTED_AT_ONCE):
            some = ids._hashes[start : start + SORTED_AT_ONCE + 1]
            for i in np.flatnonzero(some[1:] == some[:-1]).tolist():
                last = start + i + 1
                first = int(np.searchsorted(ids._hashes, some[i]))
                id = ids[int(ids._order[last])]
                if any(ids[int(ids._order[j])] == id for j in range(first, last)):
                    yield id


def _of_range(raw: UInt64[np.ndarray, " n"], number: int, bits: int) -> Iterable[Positions]:
    """Places of the hashes that begin with these bits."""
    for start in range(0, len(raw), SORTED_AT_ONCE):
        some = raw[start : start + SORTED_AT_ONCE]
        yield start + (np.flatnonzero(some >> np.uint64(64 - bits) == number) if bits else np.arange(len(some)))


def write_ids(folder: Path, ids: Iterable[str], twice: Callable[[str], None]) -> MappedIds:
    """A file of ids that are at hand, such as those of a table."""
    with closing(IdsWriter(folder, twice)) as writer:
        waiting = iter(ids)
        while block := list(islice(waiting, BLOCK)):
            writer.add(block, hashed(block))
        return writer.finish()
