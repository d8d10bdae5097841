"""Hugging Face: Parquet files that hold the images, and a card; `datasets.load_dataset(FOLDER)` reads it.

Ids are a column, so that no file name matters. What was labeled for the audit is the split `test`, all else `train`.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from mcdal.campaign.formats.folders import new_folder
from mcdal.campaign.formats.tables import to_csv
from mcdal.campaign.records import COLUMNS, Labels, Record
from mcdal.writing import replaced

SHARD_BYTES = 400 << 20
ROW_GROUP_BYTES = 32 << 20
NUMBERS = ("answers", "round")
EXTRA = tuple(name for name in COLUMNS if name not in ("label", "number"))
"""Columns beside the image and its label."""


def to_huggingface(labels: Labels, out: Path) -> None:
    """Images that have gone are in labels.csv alone."""
    there = [record for record in labels.records if record.sha256]
    with new_folder(labels, out) as made:
        for split in splits(there):
            records = [record for record in there if split_of(record) == split]
            shards = list(_parts(labels, records, SHARD_BYTES))
            for i, shard in enumerate(shards):
                _write(labels, shard, made / "data" / f"{split}-{i:05d}-of-{len(shards):05d}.parquet")
        to_csv(labels, made / "labels.csv")


def split_of(record: Record) -> str:
    return "test" if record.arm == "audit" else "train"


def splits(records: Sequence[Record]) -> list[str]:
    return sorted({split_of(record) for record in records}, reverse=True)


def features(classes: Sequence[str]) -> dict[str, Any]:
    """As `datasets` keeps them in the schema of a Parquet file."""
    told: dict[str, Any] = {"image": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
    for name in EXTRA:
        told[name] = {"dtype": "int64" if name in NUMBERS else "string", "_type": "Value"}
    return told


def _parts(labels: Labels, records: Sequence[Record], most: int) -> Iterator[list[Record]]:
    """Cut where the files would take more than `most` bytes together."""
    part: list[Record] = []
    size = 0
    for record in records:
        bytes_of = labels.bytes_of(record.sample_id)
        if part and size + bytes_of > most:
            yield part
            part, size = [], 0
        part.append(record)
        size += bytes_of
    if part:
        yield part


def _write(labels: Labels, records: Sequence[Record], path: Path) -> None:
    """A row group at a time: no more of the images is in memory."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    extra = [(name, pa.int64() if name in NUMBERS else pa.string()) for name in EXTRA]
    told = {"huggingface": json.dumps({"info": {"features": features(labels.classes)}}, ensure_ascii=False)}
    schema = pa.schema([("image", image), ("label", pa.int64()), *extra], metadata=told)
    with replaced(path) as beside, pyarrow.parquet.ParquetWriter(beside, schema) as file:
        for part in _parts(labels, records, ROW_GROUP_BYTES):
            images = labels.originals.each(r.sample_id for r in part)
            rows = [
                {
                    "image": {"bytes": content, "path": r.sample_id},
                    "label": r.number, **{name: getattr(r, name) for name in EXTRA},
                }
                for r, content in zip(part, images, strict=True)
            ]  # fmt: skip
            file.write_table(pa.Table.from_pylist(rows, schema=schema))
