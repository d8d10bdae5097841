"""All rows of a pass at once, for strategies that choose over all of them: ids and scores in memory, vectors mapped from disk."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from mcdal.errors import StoreError
from mcdal.passes.measured import Measured
from mcdal.passes.shard_files import COLUMNS
from mcdal.passes.tags import key_of
from mcdal.values import Rows
from mcdal.writing import replaced

AT_ONCE = 65_536


def rows_of(measured: Measured, labels: Mapping[str, int], away: Collection[str] = frozenset()) -> Rows:
    """The rows of all shards but those set aside. vector and probabilities are memory-mapped and must be read in parts.

    They are put together in one file a column, since an array is one file: beside the shards' where that is a folder of this
    machine, else in a temporary folder. The disk holds them twice until the next pass into the folder.
    """
    away = frozenset(away)
    ids: list[str] = []
    scores: list[np.ndarray] = []
    stays: list[np.ndarray] = []
    for part in measured.parts():
        names = part.ids.to_pylist()
        keep = np.fromiter((id not in away for id in names), dtype=bool, count=len(names))
        ids += names if keep.all() else [id for id, kept in zip(names, keep.tolist(), strict=True) if kept]
        stays.append(keep)
        if part.score is not None:
            scores.append(part.score[keep])
    y = np.fromiter((labels.get(id, -1) for id in ids), dtype=np.int64, count=len(ids))
    labeled = np.fromiter((id in labels for id in ids), dtype=bool, count=len(ids))
    columns = {name: _column(measured, name, np.concatenate(stays)) for name in COLUMNS} if stays else {}
    return Rows(tuple(ids), labeled, np.concatenate(scores) if scores else None, **columns, y=y)


def _column(measured: Measured, name: str, keep: Bool[np.ndarray, " n"]) -> Float[np.ndarray, "m d"] | None:
    arrays = [found.columns[name] for found in measured.found if name in found.columns]
    if not arrays:
        return None
    if len(arrays) != len(measured.found) or len({array.length for array in arrays}) != 1:
        raise StoreError(f"{measured.folder}: {name} differs from shard to shard in its length; remove the folder")
    path = measured.folder.scratch() / f"joined.{_key(measured, keep)}.{name}.npy"
    if not path.exists():
        kind = np.result_type(*(array.dtype for array in arrays))
        with replaced(path) as beside:
            whole = np.lib.format.open_memmap(beside, "w+", kind, (int(keep.sum()), arrays[0].length))
            _fill(whole, [measured.folder.local(array.file) for array in arrays], keep)
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
