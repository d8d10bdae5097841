"""The pictures of the most wanted picks, small enough to live inside the page."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from mcdal.pictures import Heat
from mcdal.report.heat import Scale, opened, overlay, scale
from mcdal.report.kinds import MASKS
from mcdal.report.queries import Round, Run
from mcdal.report.words import one_line, significant

PAGE = 1200
"""About as many pictures as one page can hold."""
SIDE, SCENE_SIDE = 168, 300
"""Larger pictures are made this small: twice what the page shows, for screens with fine pixels. Scenes are shown larger."""
TINY = 64
"""Up to here a picture is enlarged pixel by pixel, not blurred."""

UNREADABLE = (OSError, ValueError, KeyError, SyntaxError)  # pyarrow's and Pillow's errors are among these


@dataclass(frozen=True)
class Picture:
    """One pick: a data URI, and what stands under it. label, score, heat: empty where there is none."""

    id: str
    uri: str
    label: str
    score: str
    tiny: bool
    heat: str = ""


@dataclass(frozen=True)
class Bar:
    """The colours of a round's heat: a data URI of the scale, and its ends."""

    uri: str
    low: str
    high: str


@dataclass(frozen=True)
class Strip:
    """The top picks of one round. more: how many picks are not shown. bar: None where there is no heat."""

    round: int
    pictures: Sequence[Picture]
    more: int
    bar: Bar | None = None


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
        except UNREADABLE as error:
            remarks.append(f"Round {round.number}: the pictures cannot be read ({type(error).__name__}).")
            continue
        heat = _heat(run, round, remarks)
        few = most if heat is None else max(1, most // 2)  # each of them is two pictures
        pictures, broken = _strip(run, round, kept, few, round.number in scored, heat)
        if broken:
            remarks.append(f"Round {round.number}: {broken} of the kept pictures cannot be shown.")
        if pictures:
            bar = None if heat is None else _bar(scale(heat))
            strips.append(Strip(round.number, pictures, len(round.picks) - len(pictures), bar))
    return strips, remarks


def _heat(run: Run, round: Round, remarks: list[str]) -> Heat | None:
    try:
        return run.artifacts.read_heat(round.number)
    except UNREADABLE as error:
        remarks.append(f"Round {round.number}: the heat maps cannot be read ({type(error).__name__}).")
        return None


def _strip(
    run: Run, round: Round, kept: Mapping[str, bytes], most: int, scored: bool, heat: Heat | None
) -> tuple[list[Picture], int]:
    score = dict(zip(round.picks, round.scores, strict=True))
    side, exact = (SCENE_SIDE, TINY) if run.kind is MASKS else (SIDE, SIDE)
    pictures, broken = [], 0
    for id in [id for id in round.picks if id in kept][:most]:
        shown = data_uri(kept[id], side, exact)
        if shown is None:
            broken += 1
            continue
        value = score[id]
        text = significant(value) if scored and value is not None else ""
        hot = "" if heat is None or id not in heat.pictures else heat_uri(kept[id], heat.pictures[id], side)
        pictures.append(Picture(id, shown[0], label_name(run, id), text, shown[1], hot))
    return pictures, broken


def label_name(run: Run, id: str) -> str:
    """The class that a sample was given, or how many its mask shows; or nothing."""
    value = run.labels.get(id)
    if value is None:
        return ""
    classes = run.record.classes
    if run.kind is MASKS:
        shown = run.shown.get(value)
        return "mask" if shown is None else "1 class" if len(shown) == 1 else f"{len(shown)} classes"
    return one_line(classes[value]) if 0 <= value < len(classes) else f"class {value}"


def heat_uri(png: bytes, heat: bytes, side: int) -> str:
    """The picture with its heat as a data URI; empty where the heat is not a picture."""
    try:
        picture = opened(png)
        picture.thumbnail((side, side))
        return jpeg_uri(overlay(picture, opened(heat)))
    except UNREADABLE:
        return ""


def data_uri(png: bytes, side: int = SIDE, exact: int = SIDE) -> tuple[str, bool] | None:
    """The picture as a data URI and whether it is tiny; None for what is not a picture. Up to `exact` it stays as it is."""
    try:
        image = opened(png)
        if image.format == "PNG" and max(image.size) <= exact:
            return png_uri(png), max(image.size) <= TINY
        image.thumbnail((side, side))
        return jpeg_uri(image), False
    except UNREADABLE:
        return None


def jpeg_uri(image: Image.Image) -> str:
    sink = io.BytesIO()
    image.convert("RGB").save(sink, "JPEG", quality=85)
    return _uri("jpeg", sink.getvalue())


def png_uri(png: bytes) -> str:
    return _uri("png", png)


def _bar(scale: Scale) -> Bar:
    sink = io.BytesIO()
    scale.bar.save(sink, "PNG")
    return Bar(png_uri(sink.getvalue()), scale.low, scale.high)


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
