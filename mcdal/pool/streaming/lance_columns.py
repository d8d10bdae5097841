"""Scores and vectors as columns of the Lance table that the images are in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from mcdal.errors import PoolError
from mcdal.ids import MappedIds
from mcdal.pool.assemble import digest
from mcdal.pool.streaming.lance import open_table
from mcdal.pool.streaming.storage import Storage
from mcdal.values import Ids

ROWS = 8_192
"""Rows whose values are written at once: what a kill costs."""


def append_columns(
    table: str | Path,
    id_column: str,
    ids: Ids,
    columns: Mapping[str, Shaped[np.ndarray, "n ..."]],
    checkpoint: Path,
    rows: int = ROWS,
) -> None:
    """Adds columns with a number, or a vector, for each id; null for rows of the table that are not among `ids`.

    checkpoint: a file that remembers what has been computed; its name is followed by a digest of the values and of the table's
    version, so that others are not mixed in. After a kill the same call goes on from there; the table shows the new columns
    whole or not at all. PoolError for ids that the table does not have, and for columns that it has.
    """
    storage = Storage.of(table)
    with storage.reading():
        dataset = open_table(storage)
        if taken := next((name for name in columns if name in dataset.schema.names), None):
            raise PoolError(
                f"{storage.root} has a column {taken!r} already: choose another name, or drop that one first"
            )
        if id_column not in dataset.schema.names:
            raise PoolError(f"{storage.root} has no column {id_column!r}: rows are found by their ids")
        for name, values in columns.items():
            if len(values) != len(ids):
                raise PoolError(f"the column {name!r} has {len(values)} rows for {len(ids)} ids: give a row an id")
        _check_ids(storage.root, dataset, id_column, ids, rows)
        of = digest(dataset.version, id_column, rows, ids, *(part for item in columns.items() for part in item))[:16]
        checkpoint = checkpoint.with_name(f"{checkpoint.name}-{of}")
        _add(dataset, id_column, _Lookup(ids), columns, checkpoint, rows)


class _Lookup:
    """Where ids stand among those that are given."""

    def __init__(self, ids: Ids):
        self._mapped = ids if isinstance(ids, MappedIds) else None
        self._of = {} if self._mapped is not None else {id: i for i, id in enumerate(ids)}

    def __call__(self, ids: list[str]) -> Int[np.ndarray, " n"]:
        if self._mapped is not None:
            return self._mapped.positions(ids)
        return np.array([self._of.get(id, -1) for id in ids], dtype=np.int64)


def _check_ids(root: str, dataset: Any, id_column: str, ids: Ids, rows: int) -> None:
    lookup, seen = _Lookup(ids), np.zeros(len(ids), dtype=bool)
    for batch in dataset.to_batches(columns=[id_column], batch_size=rows):
        places = lookup(list(map(str, batch.column(0).to_pylist())))
        seen[places[places >= 0]] = True
    if not seen.all():
        missing = np.flatnonzero(~seen)
        raise PoolError(f"{root} has no row with the id {ids[int(missing[0])]!r} ({len(missing)} such ids)")


def _add(
    dataset: Any, id_column: str, lookup: _Lookup, columns: Mapping[str, np.ndarray], checkpoint: Path, rows: int
) -> None:
    import lance
    import pyarrow as pa

    kinds = {name: _type(values) for name, values in columns.items()}
    checkpoint.parent.mkdir(parents=True, exist_ok=True)

    def values_of(batch: Any) -> Any:
        places = lookup(list(map(str, batch.column(0).to_pylist())))
        return pa.record_batch({name: _taken(columns[name], places, kind) for name, kind in kinds.items()})

    remembered = lance.batch_udf(output_schema=pa.schema(kinds), checkpoint_file=str(checkpoint))(values_of)
    dataset.add_columns(remembered, read_columns=[id_column], batch_size=rows)


def _type(values: np.ndarray) -> Any:
    import pyarrow as pa

    single = pa.from_numpy_dtype(values.dtype)
    return single if values.ndim == 1 else pa.list_(single, values.shape[1])


def _taken(values: np.ndarray, places: Int[np.ndarray, " n"], kind: Any) -> Any:
    import pyarrow as pa

    missing, some = places < 0, values[np.maximum(places, 0)]
    if values.ndim == 1:
        return pa.array(some, kind, mask=missing)
    flat = pa.array(some.reshape(-1), kind.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=pa.array(missing))
