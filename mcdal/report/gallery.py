"""The pictures of the most wanted picks, small enough to live inside the page."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from mcdal.report.queries import Round, Run
from mcdal.report.words import one_line, significant

PAGE = 1200
"""About as many pictures as one page can hold."""
SIDE = 168
"""Larger pictures are made this small: twice what the page shows, for screens with fine pixels."""
TINY = 64
"""Up to here a picture is enlarged pixel by pixel, not blurred."""


@dataclass(frozen=True)
class Picture:
    """One pick: a data URI, and what stands under it. label, score: empty where there is none."""

    id: str
    uri: str
    label: str
    score: str
    tiny: bool


@dataclass(frozen=True)
class Strip:
    """The top picks of one round. more: how many picks are not shown."""

    round: int
    pictures: Sequence[Picture]
    more: int


def pictures_per_round(rounds_in_page: int) -> int:
    """12 in a page of a few runs, fewer where there are many."""
    return max(4, min(12, PAGE // max(1, rounds_in_page)))


def read_gallery(run: Run, most: int, scored: set[int]) -> tuple[list[Strip], list[str]]:
    """The strips of all rounds that kept pictures, and remarks on what could not be read.

    scored: rounds whose score means something.
    """
    strips: list[Strip] = []
    remarks: list[str] = []
    for round in run.rounds:
        try:
            kept = run.artifacts.read_gallery(round.number)
        except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are among these
            remarks.append(f"Round {round.number}: the pictures cannot be read ({type(error).__name__}).")
            continue
        pictures, broken = _strip(run, round, kept, most, round.number in scored)
        if broken:
            remarks.append(f"Round {round.number}: {broken} of the kept pictures cannot be shown.")
        if pictures:
            strips.append(Strip(round.number, pictures, len(round.picks) - len(pictures)))
    return strips, remarks


def _strip(run: Run, round: Round, kept: Mapping[str, bytes], most: int, scored: bool) -> tuple[list[Picture], int]:
    score = dict(zip(round.picks, round.scores, strict=True))
    pictures, broken = [], 0
    for id in [id for id in round.picks if id in kept][:most]:
        shown = data_uri(kept[id])
        if shown is None:
            broken += 1
            continue
        value = score[id]
        text = significant(value) if scored and value is not None else ""
        pictures.append(Picture(id, shown[0], label_name(run, id), text, shown[1]))
    return pictures, broken


def label_name(run: Run, id: str) -> str:
    """The class that a sample was given, or nothing."""
    value = run.labels.get(id)
    if value is None:
        return ""
    classes = run.record.classes
    return one_line(classes[value]) if 0 <= value < len(classes) else f"class {value}"


def data_uri(png: bytes) -> tuple[str, bool] | None:
    """The picture as a data URI and whether it is tiny; None for what is not a picture."""
    try:
        with Image.open(io.BytesIO(png)) as image:
            image.load()
            if image.format == "PNG" and max(image.size) <= SIDE:
                return _uri("png", png), max(image.size) <= TINY
            image.thumbnail((SIDE, SIDE))
            sink = io.BytesIO()
            image.convert("RGB").save(sink, "JPEG", quality=85)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError):
        return None
    return _uri("jpeg", sink.getvalue()), False


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
