"""All rows of a pass at once, for strategies that choose over all of them: scores in memory, vectors on the disk."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from mcdal.errors import StoreError
from mcdal.ids import MappedIds, ids_at, places_of
from mcdal.passes.measured import Measured
from mcdal.passes.shard_files import COLUMNS
from mcdal.passes.tags import key_of
from mcdal.stack import Matrix, Stack
from mcdal.values import Ids, Rows
from mcdal.writing import replaced

AT_ONCE = 65_536


def rows_of(
    measured: Measured, labels: Mapping[str, int], away: Collection[str] = frozenset(), ids: Ids | None = None
) -> Rows:
    """The rows of all shards but those set aside. vector and probabilities lie on the disk and must be read in parts.

    ids: of all samples of the shards, in their order, where they are at hand; they are then not read from the files again.
    """
    away = frozenset(away)
    if ids is not None:
        bad = places_of(ids, frozenset(image.id for image in measured.quarantined))
        if len(ids) - len(bad) == len(measured):
            there = ids_at(ids, np.delete(np.arange(len(ids)), bad)) if len(bad) else ids
            return _whole(measured, labels, there).without(away)
    found: list[str] = []
    scores: list[np.ndarray] = []
    stays: list[np.ndarray] = []
    for part in measured.parts():
        names = part.ids.to_pylist()
        keep = np.fromiter((id not in away for id in names), dtype=bool, count=len(names))
        found += names if keep.all() else [id for id, kept in zip(names, keep.tolist(), strict=True) if kept]
        stays.append(keep)
        if part.score is not None:
            scores.append(part.score[keep])
    y = np.fromiter((labels.get(id, -1) for id in found), dtype=np.int64, count=len(found))
    labeled = np.fromiter((id in labels for id in found), dtype=bool, count=len(found))
    columns = {name: _column(measured, name, np.concatenate(stays)) for name in COLUMNS} if stays else {}
    return Rows(tuple(found), labeled, np.concatenate(scores) if scores else None, **columns, y=y)


def _whole(measured: Measured, labels: Mapping[str, int], ids: Ids) -> Rows:
    """All that was measured: ids are those that are at hand, and each file is looked at for its scores alone."""
    score = np.empty(len(ids), dtype=np.float32) if measured.scored else None
    done = 0
    for part in measured.parts():
        last = done + len(part.ids)
        if len(part.ids) and (part.ids[0].as_py(), part.ids[-1].as_py()) != (ids[done], ids[last - 1]):
            raise StoreError(
                f"{measured.folder}: the shard {part.shard!r} has other samples than the pool; remove the folder"
            )
        if score is not None and part.score is not None:
            score = score.astype(np.result_type(score, part.score), copy=False)
            score[done:last] = part.score
        done = last
    places = _places(ids, labels)
    y, labeled = np.full(len(ids), -1), np.zeros(len(ids), dtype=bool)
    there = places >= 0
    y[places[there]] = np.fromiter(labels.values(), dtype=np.int64, count=len(labels))[there]
    labeled[places[there]] = True
    columns = {name: _column(measured, name, np.ones(len(ids), dtype=bool)) for name in COLUMNS}
    return Rows(ids, labeled, score, **columns, y=y)


def _places(ids: Ids, labels: Mapping[str, int]) -> Int[np.ndarray, " l"]:
    """Where the labeled samples stand; -1 of those that are not among the ids."""
    if isinstance(ids, MappedIds):
        return ids.positions(list(labels))
    place = {id: i for i, id in enumerate(ids) if id in labels}
    return np.array([place.get(id, -1) for id in labels], dtype=np.int64)


def _column(measured: Measured, name: str, keep: Bool[np.ndarray, " n"]) -> Float[Matrix, "m d"] | None:
    """The shards' files as one table; put together in one file where they differ in precision, so that it has one."""
    arrays = [found.columns[name] for found in measured.found if name in found.columns]
    if not arrays:
        return None
    if len(arrays) != len(measured.found) or len({array.length for array in arrays}) != 1:
        raise StoreError(f"{measured.folder}: {name} differs from shard to shard in its length; remove the folder")
    files = [measured.folder.local(array.file) for array in arrays]
    if len({array.dtype for array in arrays}) == 1:
        stack = Stack.of_files(files, holding=measured.folder)
        return stack if keep.all() else stack.take(np.flatnonzero(keep))
    path = measured.folder.scratch() / f"joined.{_key(measured, keep)}.{name}.npy"
    if not path.exists():
        with replaced(path) as beside:
            whole = np.lib.format.open_memmap(beside, "w+", np.float32, (int(keep.sum()), arrays[0].length))
            _fill(whole, files, keep)
            whole.flush()
            del whole
    mapped: np.ndarray = np.load(path, mmap_mode="r")
    return mapped


def _fill(whole: Float[np.ndarray, "m d"], files: list[Path], keep: Bool[np.ndarray, " n"]) -> None:
    seen = done = 0
    for file in files:
        part = np.load(file, mmap_mode="r")
        for first in range(0, len(part), AT_ONCE):
            some = part[first : first + AT_ONCE]
            kept = some[keep[seen : seen + len(some)]]
            whole[done : done + len(kept)] = kept
            seen, done = seen + len(some), done + len(kept)


def _key(measured: Measured, keep: Bool[np.ndarray, " n"]) -> str:
    """Changes with what was measured, and with what is left out."""
    shards = {found.tags["shard"]: key_of(found.tags) for found in measured.found}
    return key_of({**shards, "": hashlib.sha256(np.packbits(keep).data).hexdigest()})
