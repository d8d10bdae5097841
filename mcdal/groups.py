"""Groups of samples from a file: which sequence, camera or patient each image belongs to."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from mcdal.errors import ConfigError
from mcdal.values import Ids

NAMED = 5


def read_groups(path: Path, ids: Ids) -> tuple[str, ...]:
    """The group of each id. ConfigError for a file that is no such table, and for ids that it does not have."""
    table = _table(path.expanduser())
    missing = [name for name in ("sample_id", "group") if name not in table.column_names]
    if missing:
        raise ConfigError(f"groups = {path}: no column {' and '.join(missing)}; it has {', '.join(table.column_names)}")
    samples, groups = (table[name].cast(pa.string()).to_pylist() for name in ("sample_id", "group"))
    known = dict(zip(samples, groups, strict=True))
    if len(known) < len(samples):
        twice = next(id for i, id in enumerate(samples) if id in samples[:i])
        raise ConfigError(f"groups = {path}: {twice!r} is there twice")
    without = [id for id in ids if known.get(id) is None]
    if without:
        named = ", ".join(map(repr, without[:NAMED])) + (", ..." if len(without) > NAMED else "")
        raise ConfigError(f"groups = {path}: no group of {len(without)} of {len(ids)} samples: {named}")
    return tuple(known[id] for id in ids)


def _table(path: Path) -> pa.Table:
    try:
        if path.suffix.lower() == ".parquet":
            return pa.parquet.read_table(path, partitioning=None)
        if path.suffix.lower() == ".csv":
            as_text = pa.csv.ConvertOptions(column_types={"sample_id": pa.string(), "group": pa.string()})
            return pa.csv.read_csv(path, convert_options=as_text)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"groups = {path}: cannot be read: {error}") from error
    raise ConfigError(f"groups = {path}: give a .csv or .parquet file with the columns sample_id and group")
