"""What was measured on one shard, as files: a Parquet file of ids and scores, and beside it an array a column of vectors.

Vectors lie in `.npy` files and not in Parquet columns since those can be mapped into memory and read by position. Their names end
in a digest of what they depend on; the Parquet file names them, with their sizes and checksums, and is written last: until it is
there, nothing is.
"""

import io
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from mcdal.errors import StoreError
from mcdal.passes.folder import Folder
from mcdal.passes.tags import Tags, key_of
from mcdal.pool.base import Quarantined
from mcdal.values import Rows

Kept: TypeAlias = Literal["float16", "float32"]
COLUMNS = ("vector", "probabilities")
ROWS_AT_ONCE = 65_536
ABOUT = b"mcdal"
LONGEST = 100
WAITS = (0.1, 0.4, 1.5, 3.0, 10.0, 15.0)


@dataclass(frozen=True)
class Column:
    """An array beside the Parquet file."""

    file: str
    bytes: int
    crc: int
    dtype: str
    length: int
    """Numbers a row."""


@dataclass(frozen=True)
class Found:
    """What the file of a shard says of itself."""

    tags: Tags
    rows: int
    columns: Mapping[str, Column]
    quarantined: tuple[Quarantined, ...]
    scored: bool


class DamagedError(Exception):
    """A file that is there, but cannot be what was written."""


def file_of(shard: str) -> str:
    """Of the shard of this name; short and without separators whatever that is."""
    plain = quote(shard, safe="")
    if len(plain) <= LONGEST:
        return f"{plain}.parquet"
    return f"{plain[: LONGEST - 17]}-{key_of({'name': shard})}.parquet"


def encoded(rows: Rows, quarantined: Sequence[Quarantined], tags: Tags, kept: Kept) -> dict[str, bytes]:
    """Content by file name, in the order in which the files are to be written."""
    files: dict[str, bytes] = {}
    columns: dict[str, dict[str, object]] = {}
    name = file_of(tags["shard"])
    for column in COLUMNS:
        values: np.ndarray | None = getattr(rows, column)
        if values is not None:
            array = _narrowed(values, kept)
            content = _npy(array)
            file = f"{name.removesuffix('.parquet')}.{key_of(tags)}.{column}.npy"
            files[file] = content
            columns[column] = vars(
                Column(file, len(content), zlib.crc32(content), str(array.dtype), int(array.shape[1]))
            )
    about = {"tags": dict(tags), "columns": columns, "quarantined": [(q.id, q.reason) for q in quarantined]}
    table = {"sample_id": pa.array(rows.ids, pa.string())}
    if rows.score is not None:
        table["score"] = pa.array(rows.score)
    schema_table = pa.table(table).replace_schema_metadata({ABOUT: json.dumps(about).encode()})
    sink = io.BytesIO()
    pq.write_table(
        schema_table, sink, compression="zstd", use_dictionary=False, write_page_checksum=True,
        row_group_size=ROWS_AT_ONCE,
    )  # fmt: skip
    files[name] = sink.getvalue()
    return files


def write(folder: Folder, files: Mapping[str, bytes]) -> None:
    """In their order."""
    for name, content in files.items():
        folder.write(name, content)


def refuse_unseen(folder: Folder, shard: str, who: str) -> None:
    """StoreError where this process does not see what another wrote. A shared disk may take a while to show it."""
    for seconds in (*WAITS, None):
        if folder.read(file_of(shard)) is not None:
            return
        if seconds is not None:
            time.sleep(seconds)
    raise StoreError(
        f"{who} wrote {file_of(shard)} into {folder}, and here it is not to be seen: give a folder that all share, or an "
        "address that leads all of them to the same place"
    )


def sweep(folder: Folder, used: set[str]) -> None:
    """Removes the arrays of earlier passes: those that no file of this one names."""
    for name in folder.names():
        if name.endswith(".npy") and name not in used:
            folder.remove(name)


def look(folder: Folder, shard: str, thorough: bool = True) -> Found | None:
    """What there is of the shard, None if nothing. DamagedError where a file is cut off or torn.

    thorough: everything is read and compared with its checksums; else ends and sizes alone.
    """
    content = folder.read(file_of(shard))
    if content is None:
        return None
    file = opened(content)
    found = about(file)
    if thorough:
        try:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                batch.validate()
        except (OSError, pa.ArrowException) as error:
            raise DamagedError(f"its pages cannot be read: {error}") from error
        for column in found.columns.values():
            _check(folder, column)
    return found


def opened(content: bytes) -> pq.ParquetFile:
    """DamagedError where it is no whole Parquet file."""
    try:
        return pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise DamagedError(f"it is cut off or no Parquet file: {error}") from error


def about(file: pq.ParquetFile) -> Found:
    """What it says of itself."""
    schema = file.schema_arrow
    try:
        told: dict[str, Any] = json.loads((schema.metadata or {})[ABOUT])
        columns = {name: Column(**column) for name, column in told["columns"].items()}
        quarantined = tuple(Quarantined(id, reason) for id, reason in told["quarantined"])
        return Found(told["tags"], file.metadata.num_rows, columns, quarantined, "score" in schema.names)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"it does not say what it holds: {error}") from error


def _check(folder: Folder, column: Column) -> None:
    content = folder.read(column.file)
    if content is None:
        raise DamagedError(f"{column.file} is missing")
    if len(content) != column.bytes:
        raise DamagedError(f"{column.file} has {len(content)} bytes of {column.bytes}")
    if zlib.crc32(content) != column.crc:
        raise DamagedError(f"{column.file} has another content than was written")


def _narrowed(values: Float[np.ndarray, "n d"], kept: Kept) -> Float[np.ndarray, "n d"]:
    """In float32 where float16, whose largest number is 65,504, would make a number infinite."""
    with np.errstate(over="ignore"):
        narrow: np.ndarray = values.astype(kept)
    return values.astype(np.float32) if np.isinf(narrow).any() and not np.isinf(values).any() else narrow


def _npy(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=False)
    return sink.getvalue()
