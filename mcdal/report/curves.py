"""Learning curves: a metric against the number of labels, and the difference to Random at equal seeds."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform

from mcdal.report.experiments import Curve, Experiment, Summary, summarize
from mcdal.report.ink import (
    GREY,
    MUTED,
    SERIES,
    STYLE,
    VARIABLES,
    Cell,
    Drawing,
    Marker,
    Plot,
    Table,
    drawn,
    panel,
    sheet,
    words,
)
from mcdal.report.words import MINUS, NARROW, count, percent, points, shortened, titled

WIDTH, HEIGHT = 380.0, 280.0
LEFT, TOP, BOTTOM, LABELS = 34.0, 42.0, 40.0, 112.0

BANDS, WHISKERS = 3, 10
"""Bands and lines of single seeds of more groups than these lie over each other and hide more than they show; whiskers, side by
side, do so later."""
MANY = 6
"""Lines that are thick."""
APART = 2.2
"""Points between the whiskers of one budget."""

Dashes: TypeAlias = tuple[float, ...]
Say: TypeAlias = Callable[[float], str]
DASHES: tuple[Dashes, ...] = ((), (5.0, 2.0), (1.5, 1.5), (6.0, 2.0, 1.5, 2.0))


@dataclass(frozen=True)
class Look:
    """How a group is drawn, everywhere in the page. dashes: lengths on and off in points; empty for a full line."""

    color: str
    dashes: Dashes


Looks: TypeAlias = Mapping[tuple[str, str], Look]


def looks(experiments: Sequence[Experiment]) -> Looks:
    """By (strategy, title): one colour a strategy, Random in grey; variants of a strategy differ by their dashes."""
    titles: dict[str, dict[str, None]] = {}
    for group in sorted((g for e in experiments for g in e.groups), key=lambda g: (g.strategy, len(g.title), g.title)):
        titles.setdefault(group.strategy, {})[group.title] = None
    colored = [s for s in titles if s.lower() != "random"]
    found = {}
    for strategy, variants in titles.items():
        turn, place = divmod(colored.index(strategy), len(SERIES)) if strategy in colored else (0, -1)
        for i, title in enumerate(variants):
            color = SERIES[place] if place >= 0 else GREY
            found[strategy, title] = Look(color, DASHES[(turn + i) % len(DASHES)])
    return found


@dataclass(frozen=True)
class Line:
    """One group in a figure: its seeds and their mean. number: its place in the experiment."""

    number: int
    title: str
    look: Look
    seeds: Sequence[Curve]
    mean: Sequence[Summary]

    @property
    def end(self) -> tuple[int, float]:
        """The last point of the mean, or of the longest seed where no point is common."""
        if self.mean:
            return self.mean[-1].labels, self.mean[-1].mean
        longest = max(self.seeds, key=max)
        return max(longest), longest[max(longest)]


def learning_curve(experiment: Experiment, metric: str, title: str, name: str, looks: Looks) -> Drawing:
    """One line for each group, with its seeds behind it."""
    groups = [g for g in experiment.groups if g.curves(metric)]
    lines = [
        Line(
            experiment.groups.index(g),
            g.title,
            looks[g.strategy, g.title],
            [c for _, c in g.curves(metric)],
            g.summaries(metric),
        )
        for g in groups
    ]
    rows: list[Sequence[Cell]] = [
        (run.record.run_id, g.strategy, g.title, run.record.seed, labels, value)
        for g in groups
        for run, c in g.curves(metric)
        for labels, value in c.items()
    ]
    table = Table(("run_id", "strategy", "group", "seed", "labels", metric), rows)
    with rc_context(STYLE):
        figure, axes = _frame(title, experiment.title)
        _draw(axes, lines, percent)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g}"))
        alt = f"{title} against number of labels, {experiment.title}"
        return drawn(name, alt, figure, table, _plot(axes, lines, percent))


def summary_table(experiment: Experiment) -> Table | None:
    """Mean, standard deviation and interval of the headline by strategy and number of labels; None before the first round."""
    columns = ("group", "labels", "seeds", "mean", "deviation", "low", "high", "smallest", "largest")
    rows: list[Sequence[Cell]] = [
        (
            group.title, s.labels, s.seeds, s.mean,
            *(v if math.isfinite(v) else None for v in (s.deviation, s.interval.low, s.interval.high)), s.low, s.high,
        )
        for group in experiment.groups
        for s in group.summaries()
    ]  # fmt: skip
    return Table(columns, rows) if rows else None


def difference_curve(experiment: Experiment, name: str, looks: Looks) -> Drawing | None:
    """The headline minus Random's at equal seeds, or None where nothing can be paired."""
    paired = [(g, pairs) for g in experiment.groups if (pairs := experiment.differences(g))]
    if not paired:
        return None
    lines = [
        Line(
            experiment.groups.index(g),
            g.title,
            looks[g.strategy, g.title],
            [c for *_, c in pairs],
            summarize([c for *_, c in pairs]),
        )
        for g, pairs in paired
    ]
    rows: list[Sequence[Cell]] = [
        (run.record.run_id, other.record.run_id, g.strategy, g.title, run.record.seed, labels, value)
        for g, pairs in paired
        for run, other, c in pairs
        for labels, value in c.items()
    ]
    table = Table(
        ("run_id", "random_run_id", "strategy", "group", "seed", "labels", experiment.kind.difference_name), rows
    )
    with rc_context(STYLE):
        what = titled(experiment.kind.headline_name)
        figure, axes = _frame(f"{what} minus Random’s, percentage points", f"{experiment.title}, equal seeds")
        axes.axhline(0, color=GREY, linewidth=1.2)
        _draw(axes, lines, points)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:+g}".replace("-", MINUS) if v else "0"))
        alt = f"Difference to Random against number of labels, {experiment.title}"
        return drawn(name, alt, figure, table, _plot(axes, lines, points))


def _frame(title: str, subtitle: str) -> tuple[Figure, Axes]:
    figure = sheet(WIDTH, HEIGHT)
    words(figure, 0.0, 12.0, title, size=10.5, weight="bold")
    words(figure, 0.0, 27.0, shortened(subtitle, 70), color=MUTED)
    axes = panel(figure, LEFT, TOP, WIDTH - LEFT - LABELS, HEIGHT - TOP - BOTTOM)
    axes.set_xlabel("labels", loc="right")
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y")
    return figure, axes


def _plot(axes: Axes, lines: Sequence[Line], say: Say) -> Plot:
    """The means, for the page."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    of_lines = [
        {
            "line": line.number,
            "title": line.title,
            "color": VARIABLES[line.look.color],
            "points": [[s.labels, round(s.mean, 5), count(s.labels), _read(s, say)] for s in line.mean],
        }
        for line in lines
    ]
    panel = LEFT, TOP, WIDTH - LEFT - LABELS, HEIGHT - TOP - BOTTOM
    return Plot(panel, [round(v, 5) for v in (left, right, low, high)], of_lines)


def _read(summary: Summary, say: Say) -> str:
    """`72.4 %, 71.9 to 72.9`: the mean and what the band shows."""
    if summary.seeds < 2:
        return say(summary.mean)
    low, high = (say(v).removesuffix(f"{NARROW}%") for v in summary.band)
    return f"{say(summary.mean)} ({low} to {high})"


def _draw(axes: Axes, lines: Sequence[Line], say: Say) -> None:
    mark = Marker()
    for place, line in reversed(list(enumerate(lines))):  # the first in the list lies on top
        color = line.look.color
        at = [s.labels for s in line.mean]
        if len(line.seeds) > 1 and len(lines) <= BANDS:
            low, high = zip(*(s.band for s in line.mean), strict=True) if line.mean else ((), ())
            mark(line.number, axes.fill_between(at, low, high, color=color, alpha=0.13, linewidth=0))
        elif len(line.seeds) > 1 and len(lines) <= WHISKERS and line.mean:
            low, high = zip(*(s.band for s in line.mean), strict=True)
            beside = shifted(axes, (place - (len(lines) - 1) / 2) * APART)
            mark(line.number, axes.vlines(at, low, high, color=color, alpha=0.55, linewidth=1.0, transform=beside))
        for seed in line.seeds if len(line.seeds) > 1 and (len(lines) <= BANDS or not line.mean) else ():
            values = list(seed.values())
            thin = axes.plot(list(seed), values, color=color, alpha=0.45, linewidth=0.7, marker="o", markersize=1.6)
            mark(line.number, *thin)
        style = (0, line.look.dashes) if line.look.dashes else "-"
        means, width = [s.mean for s in line.mean], 1.9 if len(lines) <= MANY else 1.5
        mark(
            line.number,
            *axes.plot(at, means, color=color, linewidth=width, marker="o", markersize=3.2, linestyle=style),
        )
    _ticks(axes, sorted({n for line in lines for seed in line.seeds for n in seed}))
    _label_ends(axes, lines, say, mark)


def shifted(axes: Axes, by: float) -> Transform:
    """Data coordinates, so many points further to the right."""
    figure = axes.get_figure()
    assert figure is not None
    return axes.transData + ScaledTranslation(by / 72, 0.0, figure.dpi_scale_trans)


def _ticks(axes: Axes, at: Sequence[int]) -> None:
    """Ticks where rounds ended, as long as they can be read; room for a single point."""
    span = at[-1] - at[0]
    far_enough = all((b - a) >= span / 8 for a, b in pairwise(at))
    axes.xaxis.set_major_locator(FixedLocator([float(n) for n in at]) if far_enough else MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: count(round(v))))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    pad = 0.03 * span or max(1.0, 0.1 * at[0])
    axes.set_xlim(at[0] - pad, at[-1] + pad)
    low, high = axes.get_ylim()
    if high - low < 0.02:  # two points of accuracy are the least that is worth the full height
        axes.set_ylim((low + high) / 2 - 0.01, (low + high) / 2 + 0.01)


def _label_ends(axes: Axes, lines: Sequence[Line], say: Say, mark: Marker) -> None:
    """Each line is named at its end, with its value there; leaders keep the names of close ends apart."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    height = HEIGHT - TOP - BOTTOM
    gap = min(24.0 if any(" (" in line.title for line in lines) else 14.0, (height + 20) / len(lines))
    wanted = [(line.end[1] - low) / (high - low) * height for line in lines]
    outside = right + (right - left) * 10 / (WIDTH - LEFT - LABELS)
    for line, place in zip(lines, spread(wanted, gap, 4.0, height - 4), strict=True):
        (x, y), color = line.end, line.look.color
        spot = (outside, low + place / height * (high - low))
        mark(line.number, *axes.plot([right, spot[0]], [y, spot[1]], color=color, linewidth=0.9, clip_on=False))
        if x < max(other.end[0] for other in lines):  # it ends early: a faint line leads to its name
            faint = axes.plot([x, right], [y, y], color=color, linewidth=0.6, alpha=0.6, linestyle=(0, (1, 3)))
            mark(line.number, *faint)
        mark(line.number, *_name(axes, line, say(y), spot, two_lines=gap > 18))
    axes.set(xlim=(left, right), ylim=(low, high))  # the leaders must not stretch them


def _name(axes: Axes, line: Line, value: str, spot: tuple[float, float], two_lines: bool) -> list[Artist]:
    """The strategy and its value at its last point, with what was changed by hand in a second line."""
    name, _, changed = line.title.partition(" (")
    style: dict[str, Any] = {"textcoords": "offset points", "annotation_clip": False, "va": "center"}
    two_lines = two_lines and bool(changed)
    told: list[Artist] = [
        axes.annotate(f"{shortened(name, 13)} {value}", spot, (3, 4.5 if two_lines else -0.5), **style)
    ]
    if two_lines:
        changed = shortened(changed.removesuffix(")"), 20)
        told.append(axes.annotate(changed, spot, (3, -6.5), color=MUTED, size=7.5, **style))
    return told


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, in the same order, at least `gap` apart, inside [low, high] if they fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[list[float]] = []  # mean of (wanted - its step), members: overlapping neighbours move as one
    for step, i in enumerate(order):
        blocks.append([wanted[i] - step * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, n = blocks.pop()
            blocks[-1] = [(blocks[-1][0] * blocks[-1][1] + mean * n) / (blocks[-1][1] + n), blocks[-1][1] + n]
    flat = [mean for mean, n in blocks for _ in range(int(n))]
    top = high - (len(wanted) - 1) * gap
    places = [0.0] * len(wanted)
    for step, i in enumerate(order):
        places[i] = min(max(flat[step], low), max(top, low)) + step * gap
    return places
