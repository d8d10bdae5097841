"""Classes of a pool in shards: what they are called, and which one each label is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from mcdal.errors import PoolError
from mcdal.pool.streaming.index import Index, Indexed
from mcdal.pool.streaming.split import Split, is_test

FEW, MOST = 1_000, 1_000_000
"""Class indices beyond the number of samples by more, or beyond this in any case, are something else."""
NAMED = 10


def find_classes(index: Index, shards: Sequence[Indexed], given: Sequence[str]) -> tuple[str, ...]:
    """Those that are given, or that the shards know, or the values of the labels. PoolError where nothing tells."""
    if given:
        return tuple(given)
    if named := [shard for shard in shards if shard.classes]:
        return _common(named)
    names: set[str] = set()
    most, of = -1, shards[0]
    for shard in shards:
        if shard.labels != "none":
            values = index.read(shard, ["label"]).labels.unique().to_pylist()
            largest = max((v for v in values if isinstance(v, int)), default=-1)
            most, of = (largest, shard) if largest > most else (most, of)
            names |= {v for v in values if isinstance(v, str)}
    if names and most >= 0:
        raise PoolError("labels are numbers in some shards and names in others: make them alike")
    if not names and most < 0:
        raise PoolError(
            "there are no labels (source.label_column says where they are looked for): for a pool without labels say which "
            'classes people will choose from, such as --set source.classes=["cat","dog"]'
        )
    samples = sum(shard.samples for shard in shards)
    if most >= min(samples + FEW, MOST):
        raise PoolError(
            f"{of.name} has the label {most}, which is no class index of {samples} samples. Say with "
            "source.label_column where the classes are, or give their names in source.classes"
        )
    return tuple(sorted(names)) or tuple(map(str, range(most + 1)))


def _common(shards: Sequence[Indexed]) -> tuple[str, ...]:
    """The names that the first shard knows. PoolError where another one knows more; the order may differ."""
    first = shards[0]
    for shard in shards[1:]:
        if other := [name for name in shard.classes if name not in first.classes]:
            raise PoolError(
                f"{shard.name} knows the class {other[0]!r}, but {first.name} does not: make their class names alike, or say "
                "with source.classes what they are in all"
            )
    return first.classes


def targets_of(shard: Indexed, ids: Any, labels: Any, classes: Sequence[str]) -> Int[np.ndarray, " n"]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if labels is None:
        return np.full(len(ids), -1)
    targets: Int[np.ndarray, " n"]
    if pa.types.is_integer(labels.type):
        targets = _by_name(shard, labels.to_numpy(zero_copy_only=False).astype(np.int64), classes)
    else:
        found = pc.index_in(labels, value_set=pa.array(list(classes), pa.string())).fill_null(-1)
        targets = found.to_numpy(zero_copy_only=False).astype(np.int64)
    wrong = np.flatnonzero((targets < 0) | (targets >= len(classes)))
    if len(wrong):
        said = labels[int(wrong[0])].as_py()
        raise PoolError(
            f"{shard.name}: {ids[int(wrong[0])].as_py()!r} has the label {said!r}, which is none of the {len(classes)} classes "
            f"({len(wrong)} such samples)"
        )
    return targets


def _by_name(shard: Indexed, targets: Int[np.ndarray, " n"], classes: Sequence[str]) -> Int[np.ndarray, " n"]:
    """Indices into the shard's own names as those into the pool's. PoolError for a label whose name is none of these."""
    if not shard.classes or tuple(shard.classes) == tuple(classes):
        return targets
    place = {name: i for i, name in enumerate(classes)}
    of = np.array([*(place.get(name, -1) for name in shard.classes), -1], dtype=np.int64)
    known = (targets >= 0) & (targets < len(shard.classes))
    found: Int[np.ndarray, " n"] = of[np.where(known, targets, len(shard.classes))]
    if len(lost := np.flatnonzero(known & (found < 0))):
        name = shard.classes[int(targets[lost[0]])]
        raise PoolError(
            f"{shard.name} calls a class {name!r}, which is none of the {len(classes)} classes ({', '.join(classes[:NAMED])}"
            f"{', ...' if len(classes) > NAMED else ''}): give source.classes the names that the shards have"
        )
    return found


def check_labels(shards: Sequence[Indexed], split: Split) -> bool:
    """Whether the pool has labels. PoolError where some shards have them and others not, and for a test shard without."""
    if bare := next((s for s in shards if split.by_shard and is_test(s.name) and s.labels == "none"), None):
        raise PoolError(f"the test shard {bare.name} has no labels: a model cannot be tested on it")
    pool = [s for s in shards if s.samples and not (split.by_shard and is_test(s.name))]
    if not pool:
        raise PoolError("there is no image for the pool: all shards are for the test, or empty")
    with_labels = next((s for s in pool if s.labels != "none"), None)
    without = next((s for s in pool if s.labels == "none"), None)
    if with_labels and without:
        raise PoolError(
            f"{without.name} has no labels, but {with_labels.name} has: give all of them labels, or read none "
            "(--set source.label_column=null)"
        )
    return with_labels is not None
