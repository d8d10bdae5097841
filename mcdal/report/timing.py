"""Where the time of each round went, and what a round of each strategy costs."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mcdal.report.experiments import Experiment, Group
from mcdal.report.ink import (
    BLUE,
    GREEN,
    GREY,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
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
from mcdal.report.queries import Run
from mcdal.report.words import duration, shortened

PHASES = {"measure": SKY, "select": ORANGE, "ask": PURPLE, "train": BLUE, "test": GREEN}
OTHERS = (GREY, VERMILLION)
WIDTH, LEFT, NAMES, RIGHT, TOP, ROW, BOTTOM = 380.0, 52.0, 104.0, 62.0, 46.0, 17.0, 34.0


def time_figure(run: Run, name: str) -> Drawing | None:
    """A bar for each round; None where no time was recorded."""
    rounds = [r for r in run.rounds if any(s > 0 for s in r.seconds.values())]
    if not rounds:
        return None
    rows: list[Sequence[Cell]] = [
        (r.number, phase, seconds) for r in run.rounds for phase, seconds in r.seconds.items()
    ]
    with rc_context(STYLE):
        alt = f"Seconds by round and phase, {run.record.run_id}"
        figure = _figure("Where the time went", {f"round {r.number}": r.seconds for r in rounds}, LEFT)
        return drawn(name, alt, figure, Table(("round", "phase", "seconds"), rows))


def cost_figure(experiment: Experiment, name: str) -> Drawing | None:
    """A bar for each strategy, the shortest first; None where fewer than two have finished a round with picks of their own."""
    costs = {g.title: cost for g in experiment.groups if (cost := cost_of(g))}
    if len(costs) < 2:
        return None
    costs = dict(sorted(costs.items(), key=lambda at: sum(at[1].values())))
    rows: list[Sequence[Cell]] = [(title, phase, s) for title, cost in costs.items() for phase, s in cost.items()]
    with rc_context(STYLE):
        alt = f"Seconds of a round by strategy and phase, {experiment.title}"
        shown = {shortened(title, 18): cost for title, cost in costs.items()}
        figure = _figure("What a round costs", shown if len(shown) == len(costs) else costs, NAMES)
        return drawn(name, alt, figure, Table(("group", "phase", "seconds"), rows))


def cost_of(group: Group) -> Mapping[str, float]:
    """Median seconds of each phase over the finished rounds that picked; empty before the first. Waiting for people is none."""
    rounds = [r for run in group.runs for r in run.finished if r.number and r.seconds]
    phases = [p for p in PHASES if p != "ask"]
    phases += sorted({p for r in rounds for p in r.seconds} - PHASES.keys())
    costs = {p: float(np.median([r.seconds.get(p, 0.0) for r in rounds])) for p in phases if rounds}
    return {p: s for p, s in costs.items() if s > 0}


def _colors(bars: Iterable[Mapping[str, float]]) -> dict[str, str]:
    """The phases there are, in the order in which they happen; unknown ones last."""
    there = {phase for bar in bars for phase, seconds in bar.items() if seconds > 0}
    unknown = sorted(there - PHASES.keys())
    return {p: c for p, c in PHASES.items() if p in there} | {p: OTHERS[i % 2] for i, p in enumerate(unknown)}


def _figure(title: str, bars: Mapping[str, Mapping[str, float]], left: float) -> Figure:
    """Seconds by phase of each bar. left: room for the bars' names."""
    height = ROW * len(bars)
    figure = sheet(WIDTH, TOP + height + BOTTOM)
    words(figure, 0.0, 12.0, title, size=10.5, weight="bold")
    colors = _colors(bars.values())
    x = 0.0
    for phase, color in colors.items():
        words(figure, x, 28.0, "■", color=color, size=8)
        words(figure, x + 11, 28.0, phase, color=MUTED)
        x += 22 + 5.6 * len(phase)
    axes = panel(figure, left, TOP, WIDTH - left - RIGHT, height)
    unit, name = _unit(max(sum(bar.values()) for bar in bars.values()))
    starts = [0.0] * len(bars)
    for phase, color in colors.items():
        widths = [max(0.0, bar.get(phase, 0.0)) / unit for bar in bars.values()]
        axes.barh(range(len(bars)), widths, left=starts, height=0.68, color=color, linewidth=0, alpha=0.9)
        starts = [a + b for a, b in zip(starts, widths, strict=True)]
    for i, total in enumerate(starts):
        axes.annotate(
            duration(total * unit), (total, i), (4, 0), textcoords="offset points", va="center", size=8, color=MUTED
        )
    axes.set(ylim=(len(bars) - 0.5, -0.5), xlim=(0, max(starts)))
    axes.set_yticks(range(len(bars)), list(bars), size=8.5)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(name, loc="right")
    return figure


def _unit(most: float) -> tuple[float, str]:
    """What the axis counts in: seconds up to ten minutes, then minutes, hours, days."""
    steps = ((600.0, 1.0, "seconds"), (6 * 3600.0, 60.0, "minutes"), (6 * 86400.0, 3600.0, "hours"))
    return next(((unit, name) for limit, unit, name in steps if most < limit), (86400.0, "days"))
