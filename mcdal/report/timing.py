"""Where the time of each round went."""

from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
from mcdal.report.queries import Round, Run
from mcdal.report.words import duration

PHASES = {"measure": SKY, "select": ORANGE, "ask": PURPLE, "train": BLUE, "test": GREEN}
OTHERS = (GREY, VERMILLION)
WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 380.0, 52.0, 62.0, 46.0, 17.0, 34.0


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
        return drawn(name, alt, _figure(rounds), Table(("round", "phase", "seconds"), rows))


def _colors(rounds: Sequence[Round]) -> dict[str, str]:
    """The phases there are, in the order in which they happen; unknown ones last."""
    there = {phase for r in rounds for phase, seconds in r.seconds.items() if seconds > 0}
    unknown = sorted(there - PHASES.keys())
    return {p: c for p, c in PHASES.items() if p in there} | {p: OTHERS[i % 2] for i, p in enumerate(unknown)}


def _figure(rounds: Sequence[Round]) -> Figure:
    height = ROW * len(rounds)
    figure = sheet(WIDTH, TOP + height + BOTTOM)
    words(figure, 0.0, 12.0, "Where the time went", size=10.5, weight="bold")
    colors = _colors(rounds)
    x = 0.0
    for phase, color in colors.items():
        words(figure, x, 28.0, "■", color=color, size=8)
        words(figure, x + 11, 28.0, phase, color=MUTED)
        x += 22 + 5.6 * len(phase)
    axes = panel(figure, LEFT, TOP, WIDTH - LEFT - RIGHT, height)
    unit, name = _unit(max(sum(r.seconds.values()) for r in rounds))
    starts = [0.0] * len(rounds)
    for phase, color in colors.items():
        widths = [max(0.0, r.seconds.get(phase, 0.0)) / unit for r in rounds]
        axes.barh(range(len(rounds)), widths, left=starts, height=0.68, color=color, linewidth=0, alpha=0.9)
        starts = [a + b for a, b in zip(starts, widths, strict=True)]
    for i, total in enumerate(starts):
        axes.annotate(
            duration(total * unit), (total, i), (4, 0), textcoords="offset points", va="center", size=8, color=MUTED
        )
    axes.set(ylim=(len(rounds) - 0.5, -0.5), xlim=(0, max(starts)))
    axes.set_yticks(range(len(rounds)), [f"round {r.number}" for r in rounds], size=8.5)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(name, loc="right")
    return figure


def _unit(most: float) -> tuple[float, str]:
    """What the axis counts in: seconds up to ten minutes, then minutes, hours, days."""
    steps = ((600.0, 1.0, "seconds"), (6 * 3600.0, 60.0, "minutes"), (6 * 86400.0, 3600.0, "hours"))
    return next(((unit, name) for limit, unit, name in steps if most < limit), (86400.0, "days"))
