"""Which classes the picks belong to or show, round by round, and how well each class is recognised at the end."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from mcdal.report.ink import BLUE, FAINT, GREY, INK, MUTED, STYLE, Cell, Drawing, Table, drawn, panel, sheet, words
from mcdal.report.kinds import MASKS
from mcdal.report.queries import Run
from mcdal.report.words import count, one_line, shortened

WIDTH, TOP, BOTTOM, NAMES, TOTALS = 380.0, 52.0, 12.0, 92.0, 84.0


def class_counts(run: Run) -> Int[np.ndarray, "rounds classes"]:
    """Labels by round and class, of those given so far; of masks, how many show the class."""
    if run.kind is MASKS:
        return _shown_counts(run)
    classes = len(run.record.classes)
    counts = np.zeros((len(run.rounds), classes), dtype=np.int64)
    for i, round in enumerate(run.rounds):
        given = run.given[round.number]
        # A label outside the classes is somebody's mistake, not a reason to draw nothing.
        counts[i] = np.bincount(given[(given >= 0) & (given < classes)], minlength=classes)
    return counts


def _shown_counts(run: Run) -> Int[np.ndarray, "rounds classes"]:
    classes = len(run.record.classes)
    counts = np.zeros((len(run.rounds), classes), dtype=np.int64)
    for i, round in enumerate(run.rounds):
        for number, n in zip(*np.unique(run.given[round.number], return_counts=True), strict=True):
            counts[i, [c for c in run.shown.get(int(number), ()) if c < classes]] += n
    return counts


def class_metric(run: Run, round: int = -1) -> list[float | None]:
    """Test accuracy or IoU by class after a finished round, the last by default; None where it was not recorded."""
    reached = run.finished[round].metrics if run.finished else {}
    return [reached.get(f"{run.kind.by_class}{name}") for name in run.record.classes]


def balance_figure(run: Run, name: str) -> Drawing | None:
    """A row for each class and a column for each round; None before the first label."""
    counts = class_counts(run)
    if not counts.any():
        return None
    numbers = [r.number for r in run.rounds]
    rows: list[Sequence[Cell]] = [
        (number, c, class_name, int(counts[i, c]))
        for i, number in enumerate(numbers)
        for c, class_name in enumerate(run.record.classes)
    ]
    masks = run.kind is MASKS
    table = Table(("round", "class", "class_name", "images" if masks else "labels"), rows)
    what = "images that show each," if masks else "labels"
    with rc_context(STYLE):
        reached = class_metric(run)
        whole = "all" if masks else "all labels"
        text = f"{what} by round; right: {whole} (dashed: mean)" + (
            f", {run.kind.by_class_name}" if any(reached) else ""
        )
        figure = _figure(numbers, counts, [one_line(c) for c in run.record.classes], reached, text)
        alt = f"{'Images that show each class' if masks else 'Labels by class'} and round, {run.record.run_id}"
        return drawn(name, alt, figure, table)


def _figure(
    rounds: Sequence[int],
    counts: Int[np.ndarray, "r c"],
    classes: Sequence[str],
    accuracy: Sequence[float | None],
    subtitle: str,
) -> Figure:
    row = 16.0 if len(classes) <= 24 else 8.6
    height = row * len(classes)
    figure = sheet(WIDTH, TOP + height + BOTTOM)
    words(figure, 0.0, 12.0, "Classes of the images asked for", size=10.5, weight="bold")
    words(figure, 0.0, 27.0, subtitle, color=MUTED)
    room = WIDTH - NAMES - TOTALS
    cells = panel(figure, NAMES, TOP, min(room, 34.0 * len(rounds)), height)
    _cells(cells, rounds, counts)
    cells.yaxis.set_major_locator(FixedLocator(list(range(len(classes)))))
    size = 8.5 if row > 10 else 6.8
    cells.set_yticklabels([shortened(c, int(NAMES / size * 1.6)) for c in classes], size=size, color=INK)
    left = NAMES + min(room, 34.0 * len(rounds)) + 12
    totals = panel(figure, left, TOP, WIDTH - left - (40 if any(accuracy) else 26), height)
    _totals(totals, counts.sum(0), accuracy, size)
    return figure


def _cells(axes: Axes, rounds: Sequence[int], counts: Int[np.ndarray, "r c"]) -> None:
    """One hue over a transparent ground, so that an empty cell is paper on any page."""
    most = counts.max()
    shade = np.empty((*counts.T.shape, 4))
    shade[..., :3] = to_rgb(BLUE)
    shade[..., 3] = np.where(counts.T > 0, 0.08 + 0.82 * counts.T / most, 0)
    axes.imshow(shade, aspect="auto", interpolation="none")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    every = max(1, -(-len(rounds) // 12))
    axes.set_xticks(range(0, len(rounds), every), [str(r) for r in rounds[::every]])
    if counts.shape[1] <= 24 and len(rounds) <= 12 and most < 10000:
        for (r, c), n in np.ndenumerate(counts):
            strong = n / most > 0.55
            size = 7.5 if most < 1000 else 6
            axes.text(
                r, c, str(n) if n else "·", ha="center", va="center", size=size, color="#ffffff" if strong else INK
            )


def _totals(axes: Axes, totals: Int[np.ndarray, " c"], accuracy: Sequence[float | None], size: float) -> None:
    at = np.arange(len(totals))
    axes.barh(at, totals, height=0.62, color=BLUE, alpha=0.55, linewidth=0)
    axes.set(ylim=(len(totals) - 0.5, -0.5), yticks=[], xlim=(0, totals.max() * 1.02))
    axes.axvline(float(totals.mean()), color=GREY, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.spines[:].set_visible(False)
    axes.spines["left"].set(visible=True, color=FAINT)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.xaxis.set_major_locator(FixedLocator([0, float(totals.max())]))
    axes.set_xticklabels(["0", count(int(totals.max()))])
    for c, share in enumerate(accuracy):
        if share is not None:
            spot: dict[str, Any] = {
                "xycoords": ("axes fraction", "data"),
                "textcoords": "offset points",
                "va": "center",
            }
            axes.annotate(f"{100 * share:.0f} %", (1, c), (38, 0), size=size - 0.5, ha="right", color=MUTED, **spot)
