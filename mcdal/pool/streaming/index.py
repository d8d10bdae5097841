"""The index of a pool in shards: for each a Parquet file of ids, labels and places, written when the shard has been listed.

What a kill leaves is whole files: the search goes on at the shards that have none.
"""

import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt64

from mcdal.hashes import hashed
from mcdal.pool.assemble import digest
from mcdal.pool.streaming.format import Entries, Found, Places
from mcdal.pool.streaming.storage import Storage

VERSION = 2
MANIFEST = "shards.parquet"


@dataclass(frozen=True)
class Indexed:
    """A shard in the index. content: a digest of its ids, labels and places. labels: what kind they are: none, index or name."""

    name: str
    bytes: int
    stamp: str
    samples: int
    content: str
    labels: str
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Listed:
    """A shard's part of the index, read back. labels: a pyarrow array, or None."""

    ids: Any
    hashes: UInt64[np.ndarray, " n"]
    labels: Any
    places: Places


@dataclass(frozen=True)
class Index:
    """A folder or URL. carried: files of it that travel with this object, for processes that cannot reach it."""

    root: Storage
    carried: dict[str, bytes] = field(default_factory=dict)

    def read(self, shard: Indexed, columns: Sequence[str] | None = None) -> Listed:
        """What `write` kept of a shard as it was with this stamp."""
        import pyarrow.parquet

        name = file_of(shard.name, shard.stamp)
        content = self.carried.get(name) or self.root.read(name)
        table = pyarrow.parquet.read_table(io.BytesIO(content), columns=columns)
        names = table.column_names
        places = np.zeros((table.num_rows, 2), dtype=np.int64)
        for i, place in enumerate(n for n in names if n.startswith("at_")):
            places[:, i] = table.column(place).to_numpy()
        hashes = table.column("hash").to_numpy() if "hash" in names else np.empty(0, dtype=np.uint64)
        ids = table.column("sample_id").combine_chunks() if "sample_id" in names else None
        return Listed(ids, hashes, table.column("label").combine_chunks() if "label" in names else None, places)

    def carrying(self, shards: Sequence[Indexed]) -> "Index":
        """A copy that holds its files of these shards."""
        names = [file_of(shard.name, shard.stamp) for shard in shards]
        return Index(self.root, {name: self.root.read(name) for name in names})

    def write(self, found: Found, entries: Entries, place: tuple[str, str]) -> Indexed:
        import pyarrow as pa
        import pyarrow.parquet as pq

        labels = "none" if entries.labels is None else "index" if pa.types.is_integer(entries.labels.type) else "name"
        said = [] if entries.labels is None else entries.labels.to_pylist()
        content = digest(entries.ids, said, entries.places, found.size)
        made = Indexed(found.name, found.size, found.stamp, len(entries.ids), content, labels, entries.classes)
        columns = {"sample_id": pa.array(entries.ids, pa.string()), "hash": pa.array(hashed(entries.ids))}
        if entries.labels is not None:
            columns["label"] = entries.labels
        columns |= {f"at_{name}": pa.array(entries.places[:, i]) for i, name in enumerate(place)}
        table = pa.table(columns).replace_schema_metadata({"mcdal": json.dumps(vars(made))})
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd", use_dictionary=["label"] if labels == "name" else False)
        self.root.write(file_of(found.name, found.stamp), sink.getvalue())
        return made

    def seen(self, found: Found) -> Indexed | None:
        """What is kept of the shard, if it is still of this stamp."""
        import pyarrow.parquet as pq

        name = file_of(found.name, found.stamp)
        if not self.root.exists(name):
            return None
        told = json.loads(pq.read_metadata(io.BytesIO(self.root.read(name))).metadata[b"mcdal"])
        return Indexed(**{**told, "classes": tuple(told["classes"])})

    def set_aside(self) -> frozenset[str]:
        """Files of the index that say which images of a shard were set aside."""
        return self._files("aside", ".json")

    def listed(self) -> frozenset[str]:
        """Files of the index that say what a shard holds."""
        return self._files("shards", ".parquet")

    def _files(self, kind: str, ending: str) -> frozenset[str]:
        folder = Storage(self.root.url(kind))
        if folder.local is not None and not folder.local.is_dir():
            return frozenset()
        return frozenset(f"{kind}/{file.name}" for file in folder.files(ending))

    def manifest(self) -> list[Indexed] | None:
        """All shards, once every one of them has been listed; None before that."""
        import pyarrow.parquet as pq

        if not self.root.exists(MANIFEST):
            return None
        rows = pq.read_table(io.BytesIO(self.root.read(MANIFEST))).to_pylist()
        return [Indexed(**{**row, "classes": tuple(row["classes"])}) for row in rows]

    def write_manifest(self, shards: Sequence[Indexed]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = io.BytesIO()
        rows = [{**vars(shard), "classes": list(shard.classes)} for shard in shards]
        kinds = {"name": pa.string(), "bytes": pa.int64(), "stamp": pa.string(), "samples": pa.int64(), "content": pa.string(),
                 "labels": pa.string(), "classes": pa.list_(pa.string())}  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(kinds)), sink, compression="zstd")
        self.root.write(MANIFEST, sink.getvalue())


def file_of(shard: str, stamp: str) -> str:
    """A shard's file in the index: its name as far as file systems like it, and a digest of all of it and of the stamp.

    What is listed anew lies beside the old, which a manifest may still speak of when the listing is killed.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", shard)[-80:].strip("-.")
    return f"shards/{plain}-{hashlib.blake2b(repr((shard, stamp)).encode(), digest_size=8).hexdigest()}.parquet"


def record_of(shard: str, stamp: str, kind: str) -> str:
    """Where the index keeps what was found out while a shard was read: its checksums (sums), its bad images (aside)."""
    return file_of(shard, stamp).replace("shards/", f"{kind}/", 1).removesuffix(".parquet") + ".json"
