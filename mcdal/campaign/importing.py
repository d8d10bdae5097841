"""Labels that others have given, from files: into the ledger as answers of whoever brought them, each once."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from mcdal.campaign.definition import Opened
from mcdal.campaign.door import Door
from mcdal.campaign.ledger import Given, Question
from mcdal.campaign.noting import note_shards
from mcdal.campaign.originals import originals_of
from mcdal.campaign.questions import OF_FILES
from mcdal.errors import CampaignError
from mcdal.pool.decode import EXTENSIONS

Labels: TypeAlias = Sequence[tuple[str, str]]
"""Ids with the names of their classes."""

NAMED = 10
AT_ONCE = 1_000


def import_labels(campaign: Opened, source: Path, by: str) -> int:
    """Takes all labels of a file or folder; gives how many are new. The same file twice changes nothing.

    by: the name they are kept under. An image that is not in the campaign, a class that it does not have, and an image that is
    given two classes are named, and nothing is taken. Images that nobody was asked about are learned from in the next round.
    """
    given = read_labels(source)
    _refuse(campaign, source, given)
    numbers = {name: i for i, name in enumerate(campaign.ledger.classes())}
    person = _person(campaign, by)
    before, round = campaign.ledger.progress().labels, campaign.ledger.last_round() or 0
    for first in range(0, len(given), AT_ONCE):
        part = given[first : first + AT_ONCE]
        note_shards(campaign, [id for id, _ in part])
        campaign.ledger.ask([Question(id, round, 0, "given") for id, _ in part])
        answers = [Given(_key(by, id, name), id, "label", numbers[name]) for id, name in part]
        refused = [r.message for r in campaign.ledger.answer(person, answers) if r.status == "refused"]
        if refused:
            raise CampaignError(f"{source}: {refused[0]}")
    return campaign.ledger.progress().labels - before


def read_labels(source: Path) -> Labels:
    """By what the source is: a folder of class folders, or a file that ends in .csv, .parquet or .json (COCO)."""
    if source.is_dir():
        return list(_of_folders(source))
    reader = READERS.get(source.suffix.lower())
    if reader is None or not source.is_file():
        raise CampaignError(f"{source}: give a folder of class folders, or a file that ends in {', '.join(READERS)}")
    try:
        return list(reader(source))
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError, ValueError) as error:
        if isinstance(error, CampaignError):
            raise
        raise CampaignError(f"{source} cannot be read: {error}") from error


def _of_csv(path: Path) -> Iterator[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        _has(path, reader.fieldnames or [])
        for line, row in enumerate(reader, 2):
            if not row["sample_id"] or not row["label"]:
                raise CampaignError(f"{path}, line {line}: sample_id or label is empty")
            yield row["sample_id"], row["label"]


def _of_parquet(path: Path) -> Iterator[tuple[str, str]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    _has(path, table.column_names)
    yield from zip(table["sample_id"].to_pylist(), map(str, table["label"].to_pylist()), strict=True)


def _of_coco(path: Path) -> Iterator[tuple[str, str]]:
    """One annotation an image."""
    content = json.loads(path.read_text(encoding="utf-8"))
    try:
        files = {image["id"]: image["file_name"] for image in content["images"]}
        names = {category["id"]: category["name"] for category in content["categories"]}
        for annotation in content["annotations"]:
            yield files[annotation["image_id"]], names[annotation["category_id"]]
    except (KeyError, TypeError) as error:
        raise CampaignError(f"{path} is not COCO as it is read here: {error} is missing or unknown") from error


def _of_folders(folder: Path) -> Iterator[tuple[str, str]]:
    """The id is the path within the class folder; where exports renamed files, take their labels.csv instead."""
    if (folder / "labels.csv").is_file():
        yield from _of_csv(folder / "labels.csv")
        return
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and len(parts) > 1 and path.suffix.lower() in EXTENSIONS:
            yield "/".join(parts[1:]), parts[0]


READERS: Mapping[str, Callable[[Path], Iterator[tuple[str, str]]]] = {
    ".csv": _of_csv,
    ".parquet": _of_parquet,
    ".json": _of_coco,
}


def _has(path: Path, columns: Sequence[str]) -> None:
    if missing := [name for name in ("sample_id", "label") if name not in columns]:
        raise CampaignError(f"{path} has no column {' and '.join(missing)}; it has {', '.join(columns) or 'none'}")


def _refuse(campaign: Opened, source: Path, given: Labels) -> None:
    """CampaignError that names what cannot be taken."""
    if not given:
        raise CampaignError(f"{source} holds no label")
    there = originals_of(campaign).known([id for id, _ in given])
    classes = campaign.ledger.classes()
    said: dict[str, str] = {}
    unknown, foreign, twice = [], [], []
    for id, name in given:
        if id not in there:
            unknown.append(id)
        if name not in classes:
            foreign.append(name)
        if said.setdefault(id, name) != name:
            twice.append(id)
    for found, what in (
        (unknown, "images that the campaign does not have"),
        (
            foreign,
            f"classes that the campaign does not have (it has {', '.join(classes)}; `mcdal campaign classes --add`)",
        ),
        (twice, "images with two classes"),
    ):
        if found:
            names = [repr(name) for name in dict.fromkeys(found)]
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            raise CampaignError(f"{source}: {what}: {', '.join(names[:NAMED])}{more}; nothing was taken")


def _person(campaign: Opened, by: str) -> str:
    door = Door(campaign.ledger, campaign.secret)
    known = next((person for person in door.people() if person.name == by), None)
    return (known or door.enter(door.invite(), by)).person_id


def _key(by: str, id: str, name: str) -> str:
    return OF_FILES + hashlib.blake2b(json.dumps([by, id, name]).encode(), digest_size=16).hexdigest()
