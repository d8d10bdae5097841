"""A few test scenes as each round sees them: the image, its true mask, and the predicted masks beside it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mcdal.pictures import Scene
from mcdal.report.gallery import TINY, data_uri, png_uri
from mcdal.report.masks import (
    LARGEST,
    Colours,
    Mask,
    coloured,
    improved,
    outlined,
    palette,
    read_classes,
    resized,
    right_share,
    worth_outlining,
)
from mcdal.report.queries import Round, Run
from mcdal.report.words import one_line, percent, plural, points
from mcdal.values import VOID

ROUNDS = 5
"""At most so many predictions beside each other."""
PAGE = 60
"""About as many scenes as one page can hold."""


@dataclass(frozen=True)
class Predicted:
    """What one round says of a scene. right: share of its labeled pixels; gain: against the prediction at its left."""

    uri: str
    alt: str
    right: str
    gain: str


@dataclass(frozen=True)
class Row:
    """One scene."""

    id: str
    image: str
    truth: str
    predicted: Sequence[Predicted | None]


@dataclass(frozen=True)
class Swatch:
    """A class and its colour, as CSS has it."""

    name: str
    color: str


@dataclass(frozen=True)
class Scenes:
    """The figure. heads: what stands above each prediction, as (round, labels). legend: the classes that are seen somewhere."""

    rows: Sequence[Row]
    heads: Sequence[tuple[str, str]]
    legend: Sequence[Swatch]
    void: bool
    marked: bool


def scenes_per_run(runs_in_page: int) -> int:
    """Whatever was kept in a page of a few runs, fewer where there are many."""
    return max(1, PAGE // max(1, runs_in_page))


def read_scenes(run: Run, most: int) -> tuple[Scenes | None, Colours, list[str]]:
    """The scenes of a run if it kept any, the colours of its classes, and remarks on what could not be read."""
    fallback, remarks = palette(len(run.record.classes)), list[str]()
    try:
        kept = dict(list(run.artifacts.read_scenes().items())[:most])
        truths = {id: read_classes(scene.truth) for id, scene in kept.items()}
    except (OSError, ValueError, KeyError, SyntaxError) as error:
        return None, fallback, [f"The kept scenes cannot be read ({type(error).__name__})."]
    given = next((colours for _, colours in truths.values() if colours is not None), None)
    colours = fallback if given is None or len(given) < len(fallback) else given[: len(fallback)]
    masks = _predictions(run, {id: mask for id, (mask, _) in truths.items()}, remarks)
    if not masks:
        return None, colours, remarks
    shown = [masks[i] for i in dict.fromkeys(np.linspace(0, len(masks) - 1, ROUNDS).round().astype(int).tolist())]
    return _figure(run, kept, {id: mask for id, (mask, _) in truths.items()}, shown, colours), colours, remarks


def _predictions(run: Run, truths: Mapping[str, Mask], remarks: list[str]) -> list[tuple[Round, dict[str, Mask]]]:
    """Of the rounds that kept any."""
    found = []
    for round in run.finished:
        try:
            kept = run.artifacts.read_predictions(round.number)
            masks = {id: read_classes(png)[0] for id, png in kept.items() if id in truths}
        except (OSError, ValueError, KeyError, SyntaxError) as error:
            remarks.append(f"Round {round.number}: the predicted masks cannot be read ({type(error).__name__}).")
            continue
        if masks := {id: mask for id, mask in masks.items() if mask.shape == truths[id].shape}:
            found.append((round, masks))
    return found


def _figure(
    run: Run,
    kept: Mapping[str, Scene],
    truths: Mapping[str, Mask],
    shown: Sequence[tuple[Round, dict[str, Mask]]],
    colours: Colours,
) -> Scenes:
    rows = []
    for id, scene in kept.items():
        picture = data_uri(scene.image, LARGEST, TINY)
        if picture is not None:
            told = _row(truths[id], [(round, masks.get(id)) for round, masks in shown], colours)
            rows.append(Row(id, picture[0], _uri(coloured(resized(truths[id]), colours)), told))
    seen = np.unique(np.concatenate([m.ravel() for ms in (truths, *(ms for _, ms in shown)) for m in ms.values()]))
    legend = [
        Swatch(one_line(run.record.classes[c]), "#" + bytes(colours[c].tolist()).hex())
        for c in seen.tolist()
        if c < len(colours)
    ]
    heads = [(f"round {round.number}", plural(round.labeled, "label")) for round, _ in shown]
    return Scenes(rows, heads, legend, bool((seen == VOID).any()), marked=len(shown) > 1)


def _row(truth: Mask, masks: Sequence[tuple[Round, Mask | None]], colours: Colours) -> list[Predicted | None]:
    """Each prediction with outlines around what has become right since the one shown before it."""
    found: list[Predicted | None] = []
    before: Mask | None = None
    for round, mask in masks:
        if mask is None:
            found.append(None)
            continue
        picture = coloured(resized(mask), colours)
        share, gain, alt = right_share(mask, truth), "", f"Mask predicted in round {round.number}"
        if before is not None and share is not None:
            better = improved(before, mask, truth)
            picture = outlined(picture, worth_outlining(resized(better)))
            gain = points(share - (right_share(before, truth) or 0.0))
            alt += f"; {percent(float(better.mean()))} of the picture became right"
        right = "" if share is None else f"{percent(share)} right"
        found.append(Predicted(_uri(picture), alt, right, gain))
        before = mask
    return found


def _uri(pixels: UInt8[np.ndarray, "h w 4"]) -> str:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG", optimize=True)
    return png_uri(sink.getvalue())
