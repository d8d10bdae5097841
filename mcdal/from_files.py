"""A model's outputs from files, joined by id, and picks to a file: what `mcdal select` does."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mcdal.errors import ConfigError, PoolError
from mcdal.events import Listener, nobody
from mcdal.outputs import AUTO, select_from
from mcdal.registry import load
from mcdal.selection.search import Search
from mcdal.settings import override, parse_settings
from mcdal.strategies.base import Strategy
from mcdal.tables import Table, places, read_table, texts
from mcdal.values import Picks
from mcdal.writing import write_atomically


def select_from_files(
    strategy: Strategy,
    budget: int,
    files: Mapping[str, Path],
    seed: int = 0,
    search: Search = AUTO,
    listen: Listener = nobody,
) -> Picks:
    """`select_from` on files. files: of probabilities, logits, features, labeled, labels and ids, as `read_table` takes them.

    Files with ids of their own are joined by them: they hold the same ids, in any order. The order of those without is that of
    `ids`, or else of the first file with ids. ids, and labeled as a list of ids, may also be .txt files, one id a line.
    """
    ids = _read_ids(files["ids"]) if "ids" in files else None
    tables = {name: _read(path, name) for name, path in files.items() if name != "ids"}
    if ids is None:
        ids = next((table for table in tables.values() if table.ids is not None), None)
    if ids is None or ids.ids is None:
        names, arrays = None, {name: _bare(table, name) for name, table in tables.items()}
    else:
        names, place = ids.ids, places(ids.path, ids.ids)
        arrays = {name: _in_order(table, name, ids, place) for name, table in tables.items()}
    return select_from(
        strategy,
        budget,
        probabilities=arrays.get("probabilities"),
        logits=arrays.get("logits"),
        features=arrays.get("features"),
        labeled=arrays.get("labeled"),
        labels=arrays.get("labels"),
        ids=names,
        seed=seed,
        search=search,
        listen=listen,
    )


@dataclass
class Chosen:
    """What picks, and how it searches: fields are called strategy.FIELD and search.FIELD here too."""

    strategy: Strategy
    search: Search = AUTO


def named(strategy: str, settings: Iterable[str]) -> Chosen:
    """The strategy of that name with fields changed: ["strategy.clusters=100", "search.minutes=10"]."""
    chosen: Chosen = override(Chosen(load("strategies", strategy)()), parse_settings(settings))
    return chosen


def _read_ids(path: Path) -> Table:
    if path.suffix.lower() == ".txt":
        return _lines(path, "ids")
    table = read_table(path, "ids")
    values = texts(path, table.values)
    return Table(path, table.values, values)


def _read(path: Path, name: str) -> Table:
    if name == "labeled" and path.suffix.lower() == ".txt":
        return _lines(path, name)
    return read_table(path, name)


def _lines(path: Path, name: str) -> Table:
    try:
        lines = path.expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PoolError(f"{name} = {path}: {getattr(error, 'strerror', None) or error}") from error
    found = tuple(line.strip() for line in lines if line.strip())
    return Table(path, np.array(found, dtype=np.str_), found if name == "ids" else None)


def _bare(table: Table, name: str) -> np.ndarray:
    if table.values.dtype.kind in "US":
        raise PoolError(f"{table.path}: {name} are texts; they need --ids to be found in, or give numbers")
    return table.values


def _in_order(table: Table, name: str, ids: Table, place: Mapping[str, int]) -> np.ndarray:
    """The rows in the order of the ids; a list of labeled ids becomes a mask."""
    assert ids.ids is not None
    if table.values.dtype.kind in "US":
        return _mask(table, name, place)
    if table.ids is None:
        if len(table.values) != len(ids.ids):
            raise PoolError(f"{table.path} has {len(table.values)} rows of {name}, and {ids.path} {len(ids.ids)} ids")
        return table.values
    if table.ids == ids.ids:
        return table.values
    mine = places(table.path, table.ids)
    for here, there, one, two in ((ids.ids, mine, ids.path, table.path), (table.ids, place, table.path, ids.path)):
        missing = [id for id in here if id not in there]
        if missing:
            raise PoolError(f"{len(missing)} ids of {one} are not in {two}, the first is {missing[0]!r}")
    return table.values[[mine[id] for id in ids.ids]]


def _mask(table: Table, name: str, place: Mapping[str, int]) -> np.ndarray:
    if name != "labeled":
        raise PoolError(f"{table.path}: {name} are texts; give numbers")
    mask = np.zeros(len(place), dtype=bool)
    for id in texts(table.path, table.values):
        if id not in place:
            raise PoolError(f"{table.path}: {id!r} is said to be labeled, but there is no such id")
        mask[place[id]] = True
    return mask


def check_out(path: Path) -> None:
    """Refuses a file of no known kind, before anything is computed."""
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(f"--out {path}: give a file that ends in .csv or .parquet")


def write_picks(picks: Picks, path: Path) -> None:
    """Columns id, rank (0 is the most wanted) and score; .csv or .parquet. Written whole or not at all."""
    sink = io.BytesIO()
    if path.suffix.lower() == ".parquet":
        columns = {"id": list(picks.ids), "rank": np.arange(len(picks)), "score": picks.score}
        pq.write_table(pa.table(columns), sink)
        write_atomically(path, sink.getvalue())
    else:
        write_atomically(path, "".join(csv_lines(picks)).encode())


def csv_lines(picks: Picks) -> Iterator[str]:
    """The lines of the .csv, with their ends. Scores so that they are read again as the same numbers."""
    for row in [
        ("id", "rank", "score"),
        *zip(picks.ids, range(len(picks)), map(repr, picks.score.tolist()), strict=True),
    ]:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(row)
        yield line.getvalue()
