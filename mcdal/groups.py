"""What a file says of each sample: the group that it belongs to (a sequence, a camera, a patient), or what its label costs."""

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from mcdal.errors import ConfigError
from mcdal.values import Ids

NAMED = 5


def read_groups(path: Path, ids: Ids) -> tuple[str, ...]:
    """The group of each id. ConfigError for a file that is no such table, and for ids that it does not have."""
    return _column(path, "group", ids, "groups")


def read_costs(path: Path, ids: Ids) -> tuple[float, ...]:
    """What a label of each id costs, in any unit. ConfigError as for groups, and for what is no number above 0."""
    texts = _column(path, "cost", ids, "costs")
    costs = []
    for id, text in zip(ids, texts, strict=True):
        try:
            cost = float(text)
        except ValueError:
            cost = math.nan
        if not 0 < cost < math.inf:
            raise ConfigError(f"costs = {path}: the cost of {id!r} is {text!r}: give a number above 0")
        costs.append(cost)
    return tuple(costs)


def _column(path: Path, name: str, ids: Ids, field: str) -> tuple[str, ...]:
    """As text, in the order of the ids. field: of the config, which errors name."""
    table = _table(path.expanduser(), name, field)
    missing = [column for column in ("sample_id", name) if column not in table.column_names]
    if missing:
        raise ConfigError(
            f"{field} = {path}: no column {' and '.join(missing)}; it has {', '.join(table.column_names)}"
        )
    samples, values = (table[column].cast(pa.string()).to_pylist() for column in ("sample_id", name))
    known = dict(zip(samples, values, strict=True))
    if len(known) < len(samples):
        twice = next(id for i, id in enumerate(samples) if id in samples[:i])
        raise ConfigError(f"{field} = {path}: {twice!r} is there twice")
    without = [id for id in ids if known.get(id) is None]
    if without:
        named = ", ".join(map(repr, without[:NAMED])) + (", ..." if len(without) > NAMED else "")
        raise ConfigError(f"{field} = {path}: no {name} of {len(without)} of {len(ids)} samples: {named}")
    return tuple(known[id] for id in ids)


def _table(path: Path, name: str, field: str) -> pa.Table:
    try:
        if path.suffix.lower() == ".parquet":
            return pa.parquet.read_table(path, partitioning=None)
        if path.suffix.lower() == ".csv":
            as_text = pa.csv.ConvertOptions(column_types={"sample_id": pa.string(), name: pa.string()})
            return pa.csv.read_csv(path, convert_options=as_text)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{field} = {path}: cannot be read: {error}") from error
    raise ConfigError(f"{field} = {path}: give a .csv or .parquet file with the columns sample_id and {name}")
