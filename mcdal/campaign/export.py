"""The labels of a campaign as files that others read, with checksums of the images that they are of."""

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcdal.campaign.definition import Opened
from mcdal.campaign.rows import Labeled, labeled
from mcdal.campaign.showing import Pictures
from mcdal.errors import CampaignError, PoolError
from mcdal.writing import write_atomically

COLUMNS = ("sample_id", "label", "number", "by", "answers", "at", "round", "arm", "sha256")


def export(campaign: Opened, to: str, out: Path) -> int:
    """Writes all labels in this format; gives their number. CampaignError for a format that there is not, and for no label."""
    if to not in FORMATS:
        raise CampaignError(f"--to {to}: there are {', '.join(FORMATS)}")
    rows = labeled(campaign)
    if not rows:
        raise CampaignError(f"{campaign.folder}: nothing is labeled yet")
    FORMATS[to](campaign, rows, out)
    return len(rows)


def _records(campaign: Opened, rows: Sequence[Labeled]) -> list[dict[str, Any]]:
    """A row an image, under COLUMNS. sha256 is empty of an image that has gone."""
    pictures = Pictures.of(campaign)
    return [
        {
            "sample_id": row.sample_id, "label": row.label, "number": row.number, "by": " and ".join(row.by),
            "answers": row.answers, "at": row.at.isoformat(), "round": row.round, "arm": row.arm,
            "sha256": _digest(pictures, row.sample_id),
        }
        for row in rows
    ]  # fmt: skip


def _digest(pictures: Pictures, id: str) -> str:
    try:
        return hashlib.sha256(pictures.path(id).read_bytes()).hexdigest()
    except PoolError:
        return ""


def _csv(campaign: Opened, rows: Sequence[Labeled], out: Path) -> None:
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_records(campaign, rows))
    write_atomically(out, sink.getvalue().encode("utf-8"))


def _parquet(campaign: Opened, rows: Sequence[Labeled], out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    records = _records(campaign, rows)
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({name: [r[name] for r in records] for name in COLUMNS}), sink)
    write_atomically(out, sink.getvalue())


def _coco(campaign: Opened, rows: Sequence[Labeled], out: Path) -> None:
    """One annotation an image, of the whole of it: what readers of COCO take for a class."""
    pictures = Pictures.of(campaign)
    records = _records(campaign, rows)
    images, annotations = [], []
    for i, record in enumerate(records, 1):
        width, height = _full_size(pictures, record["sample_id"])
        images.append(
            {"id": i, "file_name": record["sample_id"], "width": width, "height": height, "sha256": record["sha256"]}
        )
        annotations.append(
            {
                "id": i, "image_id": i, "category_id": record["number"], "bbox": [0, 0, width, height],
                "area": width * height, "iscrowd": 0, "by": record["by"], "at": record["at"],
            }
        )  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in enumerate(campaign.ledger.classes())]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_atomically(out, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode("utf-8"))


def _full_size(pictures: Pictures, id: str) -> tuple[int, int]:
    try:
        return pictures.size(id, shown=False)
    except PoolError:
        return 0, 0


def _folders(campaign: Opened, rows: Sequence[Labeled], out: Path) -> None:
    """A folder a class with copies of the images; a file that would take another's place has its path in its name."""
    if out.resolve().is_relative_to(campaign.campaign.images.resolve()):
        raise CampaignError(
            f"{out} lies within the images of the campaign: the copies would become images; give another folder"
        )
    if out.exists() and any(out.iterdir()):
        raise CampaignError(f"{out} is not empty: give a new folder")
    folders = folder_names(campaign.ledger.classes())
    pictures = Pictures.of(campaign)
    taken: set[str] = set()
    for row in rows:
        try:
            path = pictures.path(row.sample_id)
        except PoolError:
            continue  # it has gone; the CSV file beside names it
        target = out / folders[row.number]
        target.mkdir(parents=True, exist_ok=True)
        name = _free(Path(row.sample_id).name, f"{folders[row.number]}/", taken)
        beside = target / f"{name}.part"
        shutil.copyfile(path, beside)
        beside.replace(target / name)
    _csv(campaign, rows, out / "labels.csv")


def folder_names(classes: Sequence[str]) -> list[str]:
    """Class names as names of folders: what no disk can hold is replaced, and a number tells apart what would be one."""
    names: list[str] = []
    taken: set[str] = set()
    for name in classes:
        plain = (
            "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in name).strip(" .")[:100] or "class"
        )
        names.append(_free(plain, "", taken))
    return names


def _free(name: str, folder: str, taken: set[str]) -> str:
    """The name, with a number where one of any letter case is taken in this folder; taken from now on."""
    stem, dot, ending = name.rpartition(".") if "." in name[1:] else (name, "", "")
    candidates = (name if i == 1 else f"{stem}_{i}{dot}{ending}" for i in range(1, len(taken) + 2))
    found = next(c for c in candidates if (folder + c).casefold() not in taken)
    taken.add((folder + found).casefold())
    return found


FORMATS: Mapping[str, Callable[[Opened, Sequence[Labeled], Path], None]] = {
    "csv": _csv,
    "parquet": _parquet,
    "coco": _coco,
    "folders": _folders,
}
