"""A class table in a CSV or JSON file: a row for each number or colour that masks hold."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcdal.errors import PoolError
from mcdal.pool.class_table import Entry

COLUMNS = "name, id or red, green and blue (or all four), and void where it is needed"
SHORT = {"r": "red", "g": "green", "b": "blue"}
TRUE, FALSE = ("1", "true", "yes", "x"), ("", "0", "false", "no")


def read_entries(path: Path) -> tuple[Entry, ...]:
    """The rows of the file. PoolError names the row that cannot be used."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise PoolError(
            f"the class table {path} does not exist: write a CSV or JSON file with the columns {COLUMNS}, "
            "and set source.classes to it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PoolError(f"the class table {path} cannot be read: {error}") from error
    rows = _json(text, path) if path.suffix.lower() == ".json" else list(csv.DictReader(text.splitlines()))
    return tuple(_entry(row, f"{path}, row {number}") for number, row in enumerate(rows, 1))


def _json(text: str, path: Path) -> list[Mapping[str, Any]]:
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise PoolError(f"the class table {path} is no JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PoolError(f"the class table {path} should be a list of objects with {COLUMNS}")
    return rows


def _entry(row: Mapping[str, Any], where: str) -> Entry:
    cells = {str(key).strip().lower(): "" if value is None else str(value).strip() for key, value in row.items()}
    cells = {SHORT.get(key, key): text for key, text in cells.items()}
    if "name" not in cells:
        raise PoolError(f"{where}: there is no column name but {', '.join(cells) or 'none'}; write {COLUMNS}")
    void = cells.get("void", "").lower()
    if void not in TRUE + FALSE:
        raise PoolError(f"{where}: void is {void!r}: write 1 or leave it empty")
    id = _number(cells, "id", where)
    parts = [number for name in ("red", "green", "blue") if (number := _number(cells, name, where)) is not None]
    if len(parts) in (1, 2):
        raise PoolError(f"{where}: a colour needs red, green and blue")
    return Entry(cells["name"], id, (parts[0], parts[1], parts[2]) if parts else None, void in TRUE)


def _number(cells: Mapping[str, str], name: str, where: str) -> int | None:
    text = cells.get(name, "")
    try:
        return int(text) if text else None
    except ValueError:
        raise PoolError(f"{where}: {name} is {text!r}, not a whole number") from None
