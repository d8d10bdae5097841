"""What a file says of each sample: the group that it belongs to (a sequence, a camera, a patient), or what its label costs."""

import math
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from mcdal.errors import ConfigError
from mcdal.values import Ids

NAMED = 5


def read_groups(path: Path, ids: Ids, grows: bool = False) -> tuple[str, ...]:
    """The group of each id. ConfigError for a file that is no such table, and for ids that it does not have.

    grows: the pool may have images that came after the file; each is then a group of its own.
    """
    found = _column(path, "group", ids, "groups", grows)
    return tuple(f"of its own: {id}" if group is None else group for id, group in zip(ids, found, strict=True))


def read_costs(path: Path, ids: Ids, grows: bool = False) -> tuple[float, ...]:
    """What a label of each id costs, in any unit. ConfigError as for groups, and for what is no number above 0.

    grows: images that came after the file cost as much as the others on average.
    """
    known = {
        id: text for id, text in zip(ids, _column(path, "cost", ids, "costs", grows), strict=True) if text is not None
    }
    costs = dict(zip(known, _numbers(path, known), strict=True))
    mean = sum(costs.values()) / len(costs) if costs else 1.0
    return tuple(costs.get(id, mean) for id in ids)


def _numbers(path: Path, known: Mapping[str, str]) -> list[float]:
    costs = []
    for id, text in known.items():
        try:
            cost = float(text)
        except ValueError:
            cost = math.nan
        if not 0 < cost < math.inf:
            raise ConfigError(f"costs = {path}: the cost of {id!r} is {text!r}: give a number above 0")
        costs.append(cost)
    return costs


def _column(path: Path, name: str, ids: Ids, field: str, grows: bool) -> list[str | None]:
    """As text, in the order of the ids; None of one that is not there, where that may be. field: of the config, for errors."""
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
    if without and not grows:
        named = ", ".join(map(repr, without[:NAMED])) + (", ..." if len(without) > NAMED else "")
        raise ConfigError(f"{field} = {path}: no {name} of {len(without)} of {len(ids)} samples: {named}")
    return [known.get(id) for id in ids]


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
