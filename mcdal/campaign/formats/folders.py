"""A folder a class with copies of the images, a table of all labels, and a card."""

import io
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from mcdal.campaign.formats.tables import to_csv
from mcdal.campaign.records import Labels
from mcdal.errors import CampaignError
from mcdal.pool.decode import EXTENSIONS, FORMATS


def to_folders(labels: Labels, out: Path) -> None:
    """A file that would take another's place gets a number. Images that have gone are in labels.csv alone."""
    folders = folder_names(labels.classes)
    taken: set[str] = set()
    with new_folder(labels, out) as made:
        there = [record for record in labels.records if record.sha256]
        for record, content in zip(there, labels.originals.each(r.sample_id for r in there), strict=True):
            if content is None:  # it has gone since
                continue
            target = made / folders[record.number]
            target.mkdir(parents=True, exist_ok=True)
            name = _free(file_name(record.sample_id, content), f"{folders[record.number]}/", taken)
            (target / name).write_bytes(content)
        to_csv(labels, made / "labels.csv")


@contextmanager
def new_folder(labels: Labels, out: Path) -> Iterator[Path]:
    """A folder to fill beside `out`, which takes its name when it is whole; of a call that was killed nothing is in the way.

    CampaignError where `out` is there with something in it, or lies among the images.
    """
    if labels.campaign.campaign.holds(out):
        raise CampaignError(
            f"{out} lies within the images of the campaign: the copies would become images; give another folder"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CampaignError(f"{out} is not empty: give a new folder")
    beside = out.with_name(f".{out.name}.mcdal-part")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        yield beside
        if out.exists():
            out.rmdir()
        beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def folder_names(classes: Sequence[str]) -> list[str]:
    """Class names as names of folders: what no disk can hold is replaced, and a number tells apart what would be one."""
    names: list[str] = []
    taken: set[str] = set()
    for name in classes:
        names.append(_free(_plain(name) or "class", "", taken))
    return names


def file_name(id: str, content: bytes) -> str:
    """The last part of the id, where that is a name of an image file; else made one by what the image is."""
    name = Path(id).name
    if Path(name).suffix.lower() in EXTENSIONS:
        return name
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            ending = str(image.format).lower().replace("jpeg", "jpg")
    except Exception:  # Pillow's plugins raise nearly anything on broken files
        ending = "bin"
    return f"{_plain(name) or 'image'}.{ending}"


def _plain(name: str) -> str:
    """What every disk can hold of a name."""
    return "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in name).strip(" .")[:100]


def _free(name: str, folder: str, taken: set[str]) -> str:
    """The name, with a number where one of any letter case is taken in this folder; taken from now on."""
    stem, dot, ending = name.rpartition(".") if "." in name[1:] else (name, "", "")
    candidates = (name if i == 1 else f"{stem}_{i}{dot}{ending}" for i in range(1, len(taken) + 2))
    found = next(c for c in candidates if (folder + c).casefold() not in taken)
    taken.add((folder + found).casefold())
    return found
