"""What people drew in a project as masks in files, as `mcdal.pool.mask_folder.MaskFolder` reads them."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mcdal.errors import CampaignError
from mcdal.label_studio.client import Client
from mcdal.label_studio.http import Json
from mcdal.label_studio.masks import DRAWN, to_mask
from mcdal.label_studio.shapes import read_interface
from mcdal.pool.decode import EXTENSIONS
from mcdal.values import VOID
from mcdal.writing import write_atomically

NAMED = 5
LONGEST = 200
"""Bytes of a name: most disks hold 255, and what is being written has a longer one for a moment."""


@dataclass
class Exported:
    """masks: how many files. unused: annotations that are none, with why. stale: masks of before that no annotation backs."""

    masks: int = 0
    unused: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        said = [f"{self.masks} masks", *(f"  {line}" for line in self.unused)]
        if self.stale:
            more = f" and {len(self.stale) - NAMED} more" if len(self.stale) > NAMED else ""
            said.append(
                f"  {len(self.stale)} masks of before have no annotation now, delete them if they are not yours: "
                f"{', '.join(self.stale[:NAMED])}{more}"
            )
        return said


def export_masks(client: Client, project: int, out: Path, background: str | None = None) -> Exported:
    """Writes classes.csv, and masks/ID.png for each task that somebody drew on. Twice writes the same.

    ID is the task's mcdal_id, or else the name of its image, without its ending. background: the class of what nobody drew;
    void without it. Of several annotations of a task the newest counts. CampaignError where two tasks would be one file, and for
    a folder of other classes, whose masks would be read with the wrong names.
    """
    found = client.project(project)
    classes = classes_of(found["label_config"], background)
    outside = VOID if background is None else classes.index(background)
    _write_classes(out / "classes.csv", _table(classes))
    done, names, written = Exported(), dict[str, int](), set[str]()
    for task in client.tasks(project):
        annotation = _newest(task, done)
        if annotation is None:
            continue
        try:
            name, mask = mask_name(task), to_mask(_drawn(annotation), classes, outside)
        except CampaignError as error:
            done.unused.append(f"task {task['id']}, annotation {annotation['id']}: {error}")
            continue
        if name in names:
            raise CampaignError(f"tasks {names[name]} and {task['id']} are both {name}: give them different mcdal_id")
        names[name] = task["id"]
        if mask is None:
            done.unused.append(f"task {task['id']}, annotation {annotation['id']}: nothing was drawn")
            continue
        _write(out / "masks" / name, mask)
        written.add(name)
    done.masks = len(written)
    done.stale = sorted({p.relative_to(out / "masks").as_posix() for p in (out / "masks").rglob("*.png")} - written)
    return done


def classes_of(interface: str, background: str | None) -> list[str]:
    """The labels of all brushes, polygons and boxes, each once; the background first, where it is none of them."""
    controls = read_interface(interface).of_kind(*DRAWN)
    names = list(dict.fromkeys(value for control in controls for value in control.names))
    if not names:
        raise CampaignError("the project has no <BrushLabels>, <PolygonLabels> or <RectangleLabels> on an <Image>")
    names = names if background is None or background in names else [background, *names]
    if len(names) > VOID:
        raise CampaignError(f"{len(names)} classes are more than a mask of 8 bits can tell apart")
    return names


def mask_name(task: Json) -> str:
    """Below the folder of the masks. CampaignError for one that would lie elsewhere."""
    data = task.get("data") or {}
    given = data.get("mcdal_id") if isinstance(data.get("mcdal_id"), str) else _of_address(str(data.get("image", "")))
    path = PurePosixPath(str(given))
    odd = "\\" in str(path) or "\0" in str(path) or any(not 0 < _length(part) <= LONGEST for part in path.parts)
    if path.is_absolute() or ".." in path.parts or not path.name or odd:
        raise CampaignError(
            f"task {task.get('id')}: {given!r} cannot be the name of a file: give it an mcdal_id that can"
        )
    return (path.with_suffix("") if path.suffix.lower() in EXTENSIONS else path).as_posix() + ".png"


def _of_address(address: str) -> str:
    """The name at its end; of a file on the server's disk, that is in the query. Empty where it is no address."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    local = parse_qs(parts.query).get("d", [""])[0]
    return PurePosixPath(local or unquote(parts.path)).name


def _length(name: str) -> int:
    """In bytes; 0 of what no disk can hold."""
    try:
        return len(name.encode())
    except UnicodeEncodeError:
        return 0


def _newest(task: Json, done: Exported) -> Json | None:
    there = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
    if not there:
        return None
    there.sort(key=lambda a: (str(a.get("updated_at")), a["id"]))
    done.unused += [f"task {task['id']}, annotation {a['id']}: there is a newer one" for a in there[:-1]]
    return dict(there[-1])


def _drawn(annotation: Json) -> list[Any]:
    found = annotation.get("result")
    if not isinstance(found, list):
        raise CampaignError("its result is no list of shapes")
    return found


def _write_classes(path: Path, table: bytes) -> None:
    if path.exists() and path.read_bytes() != table:
        raise CampaignError(
            f"{path} has other classes than the project: the masks beside it are of those; give another --out, or delete them"
        )
    write_atomically(path, table)


def _write(path: Path, mask: UInt8[np.ndarray, "h w"]) -> None:
    sink = io.BytesIO()
    Image.fromarray(mask).save(sink, "PNG")
    write_atomically(path, sink.getvalue())


def _table(classes: Sequence[str]) -> bytes:
    text = io.StringIO()
    rows = [("name", "id", "void"), *((name, i, "") for i, name in enumerate(classes)), ("void", VOID, 1)]
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
