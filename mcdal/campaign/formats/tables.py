"""One row a label: CSV and Parquet."""

import csv
import io
from pathlib import Path

from mcdal.campaign.records import COLUMNS, Labels
from mcdal.writing import write_atomically


def to_csv(labels: Labels, out: Path) -> None:
    write_atomically(out, csv_bytes(labels))


def csv_bytes(labels: Labels) -> bytes:
    """As the file has it, UTF-8 with a header."""
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(record) for record in labels.records)
    return sink.getvalue().encode("utf-8")


def to_parquet(labels: Labels, out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    columns = {name: [getattr(record, name) for record in labels.records] for name in COLUMNS}
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), sink)
    write_atomically(out, sink.getvalue())
