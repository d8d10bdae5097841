"""What the model says of the images that have no label: a row each, written as it goes, so that memory does not grow."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from jaxtyping import Float
from scipy.special import softmax

from mcdal.campaign.definition import Opened
from mcdal.campaign.rows import labeled as labels_of
from mcdal.campaign.trained import RoundModel
from mcdal.errors import CampaignError
from mcdal.events import Listener, nobody
from mcdal.pool.base import Images, Quarantined
from mcdal.values import Ids
from mcdal.version import __version__
from mcdal.writing import replaced

COLUMNS = ("sample_id", "label", "number", "probability", "margin")
"""margin: how far the largest probability is ahead of the second."""

Probabilities: TypeAlias = Float[np.ndarray, "b c"]
Write: TypeAlias = Callable[[Ids, Probabilities], None]


@dataclass(frozen=True)
class Predicted:
    """count: images with a row. unreadable: those without one, since they cannot be decoded, with the reason."""

    count: int
    unreadable: tuple[Quarantined, ...]


def predict(
    campaign: Opened, trained: RoundModel, temperature: float, out: Path, listen: Listener = nobody
) -> Predicted:
    """Writes the rows to a .parquet (with the probabilities of all classes) or .csv file, whole or not at all.

    temperature: logits are divided by it. Images that people could not tell have no label, and so a row.
    """
    writer = WRITERS.get(out.suffix.lower())
    if writer is None:
        raise CampaignError(f"--out {out}: predictions are written as {' or '.join(WRITERS)}")
    labeled = {row.sample_id for row in labels_of(campaign)}
    parts = [_without(images, labeled) for images in (trained.pool.images, trained.pool.test.images)]
    total, count, done = sum(len(positions) for _, positions in parts), 0, 0
    bad = {image.id: image for image in trained.pool.quarantine}
    with writer(out, trained, temperature) as write:
        for images, positions in parts:
            for ids, logits in trained.logits(images, positions):
                bad |= {image.id: image for image in images.quarantined}
                kept = [i for i, id in enumerate(ids) if id not in bad]  # the others turned out to be unusable
                write(tuple(ids[i] for i in kept), softmax(logits[kept].astype(np.float64) / temperature, axis=1))
                count += len(kept)
                done += len(ids)
                listen("measure", done=done, total=total)
    return Predicted(count, tuple(image for image in bad.values() if image.id not in labeled))


def _without(images: Images, labeled: set[str]) -> tuple[Images, np.ndarray]:
    return images, np.array([i for i, id in enumerate(images.ids) if id not in labeled], dtype=np.int64)


def _columns(ids: Ids, p: Probabilities, classes: tuple[str, ...]) -> tuple[list[object], ...]:
    """Under COLUMNS."""
    first, second = np.sort(p, axis=1)[:, :-3:-1].T
    number = p.argmax(1).tolist()
    return list(ids), [classes[c] for c in number], number, first.tolist(), (first - second).tolist()


@contextmanager
def _to_parquet(out: Path, trained: RoundModel, temperature: float) -> Iterator[Write]:
    """The classes, in the order of `probabilities`, are in the schema's metadata."""
    classes = trained.inputs.classes
    types = (pa.string(), pa.string(), pa.int32(), pa.float32(), pa.float32())
    told = {
        "classes": json.dumps(classes, ensure_ascii=False), "round": str(trained.round), "temperature": repr(temperature),
        "mcdal": __version__,
    }  # fmt: skip
    fields = [*zip(COLUMNS, types, strict=True), ("probabilities", pa.list_(pa.float32(), len(classes)))]
    schema = pa.schema(fields, metadata=told)
    with replaced(out) as beside, pyarrow.parquet.ParquetWriter(beside, schema, compression="zstd") as file:

        def write(ids: Ids, p: Probabilities) -> None:
            columns = [pa.array(c, t) for c, t in zip(_columns(ids, p, classes), types, strict=True)]
            flat = pa.array(p.astype(np.float32).ravel())
            each = pa.FixedSizeListArray.from_arrays(flat, len(classes))
            file.write_table(pa.table([*columns, each], schema=schema))

        yield write


@contextmanager
def _to_csv(out: Path, trained: RoundModel, _: float) -> Iterator[Write]:
    with replaced(out) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)

        def write(ids: Ids, p: Probabilities) -> None:
            for id, label, number, first, margin in zip(*_columns(ids, p, trained.inputs.classes), strict=True):
                writer.writerow((id, label, number, f"{first:.6f}", f"{margin:.6f}"))

        yield write


WRITERS: Mapping[str, Callable[[Path, RoundModel, float], AbstractContextManager[Write]]] = {
    ".parquet": _to_parquet,
    ".csv": _to_csv,
}
