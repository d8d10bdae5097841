"""How the score lies over labeled, unlabeled and picked images, round by round."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mcdal.report.ink import (
    BLUE,
    FAINT,
    GREY,
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
from mcdal.report.queries import Round, Run
from mcdal.report.words import count

GROUPS = {"unlabeled": GREY, "labeled": BLUE, "picked": VERMILLION}
BINS = 60


@dataclass(frozen=True)
class Measured:
    """The scores that a round picked from. The unlabeled ones include the picked ones."""

    round: int
    labeled: Float[np.ndarray, " l"]
    unlabeled: Float[np.ndarray, " u"]
    picked: Float[np.ndarray, " p"]


@dataclass(frozen=True)
class Scores:
    """The measured rounds of a run, and remarks on files that could not be read."""

    rounds: Sequence[Measured]
    unreadable: Sequence[str]


def read_scores(run: Run) -> Scores:
    """From the rows that each round kept. Rounds without scores are left out, as Random's are."""
    found: list[Measured] = []
    unreadable: list[str] = []
    for round in run.rounds:
        try:
            measured = _measured(run, round)
        except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are among these
            unreadable.append(f"Round {round.number}: the measured rows cannot be read ({type(error).__name__}).")
        else:
            found += [measured] if measured is not None else []
    return Scores(found, unreadable)


def _measured(run: Run, round: Round) -> Measured | None:
    rows = run.artifacts.read_rows(round.number)
    if rows is None or rows.score is None:
        return None
    finite = np.isfinite(rows.score)
    picks = set(round.picks)
    picked = np.fromiter((id in picks for id in rows.ids), bool, len(rows.ids))
    groups = (rows.labeled, ~rows.labeled, picked)
    return Measured(round.number, *(rows.score[finite & group].astype(np.float64) for group in groups))


def bin_edges(rounds: Sequence[Measured]) -> Float[np.ndarray, " e"]:
    """Shared by all rounds, so that they can be compared; even on a log scale where scores span orders of magnitude."""
    values = np.concatenate([v for m in rounds for v in (m.labeled, m.unlabeled)])
    low, high = float(values.min()), float(values.max())
    positive = values[values > 0]
    if len(positive) > 0.98 * len(values) and np.median(positive) * 25 < high:
        return np.geomspace(float(np.quantile(positive, 0.01)), high, BINS + 1)
    pad = 0.5 * float(high == low)
    return np.linspace(low - pad, high + pad, BINS + 1)


def histogram(values: Float[np.ndarray, " n"], edges: Float[np.ndarray, " e"]) -> Int[np.ndarray, " b"]:
    """Counts; what lies outside the edges goes into the outermost bins, so that nobody is lost."""
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]


def score_figure(run: Run, scores: Scores, name: str) -> Drawing | None:
    """One row a round on one common axis, round 0 on one of its own; None where nothing was measured.

    Round 0 is scored by the cold start, which is another strategy with another unit.
    """
    if not any(len(m.labeled) + len(m.unlabeled) for m in scores.rounds):
        return None
    common = [m for m in scores.rounds if m.round] or list(scores.rounds)
    edges = [bin_edges(common if m.round else [m]) for m in scores.rounds]
    counts = [{g: histogram(getattr(m, g), e) for g in GROUPS} for m, e in zip(scores.rounds, edges, strict=True)]
    rows: list[Sequence[Cell]] = [
        (m.round, g, float(e[b]), float(e[b + 1]), int(n))
        for m, e, by_group in zip(scores.rounds, edges, counts, strict=True)
        for g, bins in by_group.items()
        for b, n in enumerate(bins)
    ]
    table = Table(("round", "images", "score_from", "score_to", "count"), rows)
    with rc_context(STYLE):
        figure = _figure(scores.rounds, edges, counts)
        return drawn(name, f"Histograms of the score by round, {run.record.run_id}", figure, table)


WIDTH, LEFT, TOP, ROW, GAP, BOTTOM, OWN_AXIS = 380.0, 62.0, 62.0, 40.0, 10.0, 34.0, 14.0


def _figure(
    rounds: Sequence[Measured],
    edges: Sequence[Float[np.ndarray, " e"]],
    counts: Sequence[dict[str, Int[np.ndarray, " b"]]],
) -> Figure:
    cold = len(rounds) > 1 and rounds[0].round == 0
    figure = sheet(WIDTH, TOP + len(rounds) * (ROW + GAP) + OWN_AXIS * cold + BOTTOM)
    words(figure, 0.0, 12.0, "Score of the images, as each round began", size=10.5, weight="bold")
    x = 0.0
    for text, color in (("unlabeled", GREY), ("labeled", BLUE), ("picked", VERMILLION), ("labeled mean", INK)):
        words(figure, x, 28.0, "▼" if color == INK else "■", color=color, size=8)
        words(figure, x + 11, 28.0, text, color=MUTED)
        x += 22 + 5.4 * len(text)
    words(figure, 0.0, 41.0, "each shape is scaled to its own peak; the counts are in the data", color=MUTED, size=7.5)
    for i, (measured, by_group) in enumerate(zip(rounds, counts, strict=True)):
        top = TOP + i * (ROW + GAP) + OWN_AXIS * (cold and i > 0)
        axes = panel(figure, LEFT, top, WIDTH - LEFT - 6, ROW)
        words(figure, 0.0, top + ROW - 12, f"round {measured.round}", size=9)
        words(figure, 0.0, top + ROW - 1, f"picked {count(len(measured.picked))}", size=7.5, color=MUTED)
        last = i == len(rounds) - 1
        _row(axes, measured, edges[i], by_group, ticks=last or (cold and i == 0))
        if last:
            scale = ", on a log scale" if axes.get_xscale() == "log" else ""
            axes.set_xlabel(f"score{scale}: a larger one means “label me first”", loc="right")
    return figure


def _row(
    axes: Axes,
    measured: Measured,
    edges: Float[np.ndarray, " e"],
    counts: dict[str, Int[np.ndarray, " b"]],
    ticks: bool,
) -> None:
    """Three shapes, each scaled to its own peak: the picked ones are too few to be seen beside the others otherwise."""
    for group, color in GROUPS.items():
        share = counts[group] / max(1, counts[group].max())
        alpha = {"unlabeled": 0.32, "labeled": 0.0, "picked": 0.55}[group]
        axes.stairs(share, edges, fill=True, color=color, alpha=alpha, linewidth=0) if alpha else None
        if group != "unlabeled" and counts[group].any():
            axes.stairs(np.where(share > 0, share, np.nan), edges, color=color, linewidth=0.9)
    if len(measured.labeled):
        mean = float(np.clip(measured.labeled.mean(), edges[0], edges[-1]))
        axes.plot([mean], [1.12], marker="v", color=INK, markersize=4, clip_on=False)
        axes.plot([mean, mean], [0, 1.05], color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
    steps = np.diff(edges)
    log = bool(steps[-1] > 1.5 * steps[0])
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=7))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))  # the usual one writes formulas
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1.15), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_color(MUTED if ticks else FAINT)
    axes.tick_params(axis="x", which="both", length=3 if ticks else 0, labelbottom=ticks)
