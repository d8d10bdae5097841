"""How well each class is found: round by round, and under one strategy beside another."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator

from mcdal.report.balance import class_metric
from mcdal.report.experiments import Experiment, Group
from mcdal.report.ink import (
    FAINT,
    GREEN,
    INK,
    MUTED,
    STYLE,
    VERMILLION,
    Cell,
    Drawing,
    Table,
    drawn,
    panel,
    sheet,
    words,
)
from mcdal.report.kinds import MASKS
from mcdal.report.masks import Colours
from mcdal.report.queries import Run
from mcdal.report.words import one_line, plural, points, shortened

WIDTH, TOP, BOTTOM, NAMES, GAINS = 380.0, 52.0, 12.0, 92.0, 84.0


def class_figure(run: Run, colours: Colours, name: str) -> Drawing | None:
    """IoU: a row for each class and a column for each finished round; None where none was recorded."""
    if run.kind is not MASKS:
        return None
    by_round = [class_metric(run, i) for i in range(len(run.finished))]
    reached = np.array([[np.nan if v is None else v for v in row] for row in by_round], dtype=np.float64)
    if not np.isfinite(reached).any():
        return None
    rows: list[Sequence[Cell]] = [
        (round.number, c, class_name, None if row[c] is None else row[c])
        for round, row in zip(run.finished, by_round, strict=True)
        for c, class_name in enumerate(run.record.classes)
    ]
    table = Table(("round", "class", "class_name", "iou"), rows)
    with rc_context(STYLE):
        figure = _figure([r.number for r in run.finished], reached, [one_line(c) for c in run.record.classes], colours)
        return drawn(name, f"Test IoU of each class by round, {run.record.run_id}", figure, table)


def comparison_figure(experiment: Experiment, name: str) -> Drawing | None:
    """IoU: a row for each class and a column for each strategy, the mean over seeds at the most labels that all have reached.

    None where there is nothing to compare.
    """
    groups = [g for g in experiment.groups if g.summaries()]
    if experiment.kind is not MASKS or len(groups) < 2:
        return None
    common = set.intersection(*({s.labels for s in g.summaries()} for g in groups))
    if not common:
        return None
    labels, classes = max(common), groups[0].runs[0].record.classes
    reached = np.array([[_mean(g, f"{MASKS.by_class}{c}", labels) for c in classes] for g in groups], dtype=np.float64)
    rows: list[Sequence[Cell]] = [
        (g.strategy, g.title, labels, c, None if np.isnan(value) else float(value))
        for g, row in zip(groups, reached, strict=True)
        for c, value in zip(classes, row, strict=True)
    ]
    table = Table(("strategy", "group", "labels", "class_name", "iou"), rows)
    with rc_context(STYLE):
        said = f"with {plural(labels, 'label')}, means over seeds; bold: the best of a row"
        figure = _comparison([g.title for g in groups], reached, [one_line(c) for c in classes], said)
        return drawn(name, f"Test IoU of each class by strategy, {experiment.title}", figure, table)


def _mean(group: Group, metric: str, labels: int) -> float:
    """Over the seeds that have the metric; a class that is nowhere has none."""
    values = [c[labels] for _, c in group.curves(metric) if labels in c]
    return float(np.mean(values)) if values else float("nan")


def _comparison(
    groups: Sequence[str], reached: Float[np.ndarray, "g c"], classes: Sequence[str], subtitle: str
) -> Figure:
    row = 16.0 if len(classes) <= 24 else 8.6
    top, height = TOP + 34, row * len(classes)
    figure = sheet(WIDTH, top + height + BOTTOM)
    words(figure, 0.0, 12.0, "Test IoU of each class, %", size=10.5, weight="bold")
    words(figure, 0.0, 27.0, subtitle, color=MUTED)
    cells = panel(figure, NAMES, top, min(WIDTH - NAMES - 40, 44.0 * len(groups)), height)
    _cells(cells, groups, reached, best=True)
    cells.set_xticks(range(len(groups)), [shortened(g, 18) for g in groups], rotation=32, ha="left", size=8)
    _name_rows(cells, classes, row, NAMES)
    return figure


def _name_rows(axes: Axes, classes: Sequence[str], row: float, room: float) -> None:
    axes.yaxis.set_major_locator(FixedLocator(list(range(len(classes)))))
    size = 8.5 if row > 10 else 6.8
    axes.set_yticklabels([shortened(c, int(room / size * 1.6)) for c in classes], size=size, color=INK)


def _figure(
    rounds: Sequence[int], reached: Float[np.ndarray, "r c"], classes: Sequence[str], colours: Colours
) -> Figure:
    row = 16.0 if len(classes) <= 24 else 8.6
    height = row * len(classes)
    figure = sheet(WIDTH, TOP + height + BOTTOM)
    words(figure, 0.0, 12.0, "Test IoU of each class, %", size=10.5, weight="bold")
    said = "by round; right: from the first round to the last, points" if len(rounds) > 1 else "by round"
    words(figure, 0.0, 27.0, said, color=MUTED)
    width = min(WIDTH - NAMES - GAINS, 34.0 * len(rounds))
    cells = panel(figure, NAMES, TOP, width, height)
    _cells(cells, [str(r) for r in rounds], reached)
    _name_rows(cells, classes, row, NAMES - 12)
    cells.tick_params(axis="y", pad=14)
    _swatches(cells, colours, len(classes), width, row)
    if len(rounds) > 1:
        gains = panel(figure, NAMES + width + 12, TOP, WIDTH - NAMES - width - 12 - 26, height)
        _gains(gains, reached[-1] - reached[0], 8.0 if row > 10 else 6.3)
    return figure


def _cells(axes: Axes, heads: Sequence[str], reached: Float[np.ndarray, "r c"], best: bool = False) -> None:
    """From nothing to all of a class: the same shade is the same IoU in every run's figure."""
    shade = np.empty((*reached.T.shape, 4))
    shade[..., :3] = to_rgb(GREEN)
    shade[..., 3] = np.nan_to_num(0.04 + 0.86 * reached.T)
    axes.imshow(shade, aspect="auto", interpolation="none")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    every = max(1, -(-len(heads) // 12))
    axes.set_xticks(range(0, len(heads), every), heads[::every])
    if reached.shape[1] <= 24 and len(heads) <= 12:
        first = np.where(np.isfinite(reached), reached, -1).max(0) if best else np.full(reached.shape[1], np.inf)
        for (r, c), value in np.ndenumerate(reached):
            text = f"{100 * value:.0f}" if np.isfinite(value) else "–"
            strong = "bold" if 0 < first[c] <= value else "normal"
            # Dark on this green shows better than white.
            axes.text(r, c, text, ha="center", va="center", size=7.5, color=INK, weight=strong)


def _swatches(axes: Axes, colours: Colours, classes: int, width: float, row: float) -> None:
    """The colour of each class in the masks, between its name and its row."""
    left, right = axes.get_xlim()
    unit, side = (right - left) / width, min(8.0, row - 3)
    left -= 11 * unit
    for c in range(classes):
        box = Rectangle(
            (left, c - side / row / 2), side * unit, side / row, clip_on=False, linewidth=0.4, edgecolor=MUTED
        )
        box.set_facecolor(tuple(colours[c] / 255))
        axes.add_patch(box)


def _gains(axes: Axes, gains: Float[np.ndarray, " c"], size: float) -> None:
    at = np.arange(len(gains))
    finite = np.nan_to_num(gains)
    axes.barh(at, finite, height=0.62, color=[VERMILLION if g < 0 else GREEN for g in finite], alpha=0.55, linewidth=0)
    most = max(0.01, float(np.abs(finite).max()))
    axes.set(ylim=(len(gains) - 0.5, -0.5), yticks=[], xticks=[])
    axes.set_xlim(min(0.0, 1.02 * float(finite.min())), max(1.02 * float(finite.max()), 0.02 * most))
    axes.spines[:].set_visible(False)
    axes.axvline(0, color=FAINT, linewidth=0.8)
    for c, gain in enumerate(gains):
        if np.isfinite(gain):
            axes.annotate(
                points(float(gain)), (1, c), (26, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                va="center", ha="right", size=size, color=MUTED,
            )  # fmt: skip
