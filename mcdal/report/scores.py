"""How the score lies over labeled, unlabeled and picked images, round by round."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mcdal.artifacts import Scored
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
SAMPLE = 65_536
"""Scores of a round, evenly spaced, that tell whether and where a log scale begins; all of them in a smaller pool."""

Edges = Float[np.ndarray, " e"]
Counts = Int[np.ndarray, " b"]


@dataclass(frozen=True)
class Extent:
    """How far the scores of a round reach. positive: how many of the `count` are. some: a sample of the positive ones."""

    low: float
    high: float
    count: int
    positive: int
    some: Float[np.ndarray, " s"]

    @staticmethod
    def of(score: Float[np.ndarray, " n"]) -> "Extent":
        """Of finite scores."""
        positive = score > 0
        sample = score[:: -(-len(score) // SAMPLE) or 1]
        low, high = (float(score.min()), float(score.max())) if len(score) else (np.inf, -np.inf)
        return Extent(low, high, len(score), int(positive.sum()), sample[sample > 0].astype(np.float64))


@dataclass(frozen=True)
class Measured:
    """The scores that a round picked from, counted by group. The unlabeled ones include the picked ones."""

    round: int
    edges: Edges
    counts: Mapping[str, Counts]
    labeled_mean: float | None


@dataclass(frozen=True)
class Scores:
    """The measured rounds of a run, and remarks on files that could not be read."""

    rounds: Sequence[Measured]
    unreadable: Sequence[str]


def read_scores(run: Run) -> Scores:
    """From the rows that each round kept. Rounds without scores are left out, as Random's are.

    All are read twice, for the axis that they share and to be counted on it: together they may be larger than the memory. Round 0
    has an axis of its own: it is scored by the cold start, which is another strategy with another unit.
    """
    unreadable: list[str] = []
    extents = {round.number: Extent.of(_finite(kept.score)) for round, kept in _kept(run, run.rounds, unreadable)}
    cold = bin_edges([extent for number, extent in extents.items() if number == 0])
    common = bin_edges([extent for number, extent in extents.items() if number != 0])
    scored = [round for round in run.rounds if round.number in extents]
    found = [_counted(r.number, kept, common if r.number else cold) for r, kept in _kept(run, scored, unreadable)]
    return Scores(found, unreadable)


def _kept(run: Run, rounds: Sequence[Round], unreadable: list[str]) -> Iterator[tuple[Round, Scored]]:
    for round in rounds:
        try:
            kept = run.artifacts.read_scores(round.number, round.picks)
        except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are among these
            unreadable.append(f"Round {round.number}: the measured rows cannot be read ({type(error).__name__}).")
        else:
            if kept is not None:
                yield round, kept


def _finite(score: Float[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
    finite = np.isfinite(score)
    return score if finite.all() else score[finite]


def _counted(number: int, kept: Scored, edges: Edges) -> Measured:
    finite, bins = np.isfinite(kept.score), which_bin(kept.score, edges)
    groups = {"unlabeled": ~kept.labeled, "labeled": kept.labeled, "picked": kept.picked}
    counts = {name: np.bincount(bins[finite & group], minlength=BINS) for name, group in groups.items()}
    labeled = kept.score[finite & kept.labeled]
    return Measured(number, edges, counts, float(labeled.mean(dtype=np.float64)) if len(labeled) else None)


def bin_edges(extents: Sequence[Extent]) -> Edges:
    """Shared by all rounds, so that they can be compared; even on a log scale where scores span orders of magnitude."""
    count = sum(extent.count for extent in extents)
    if not count:
        return np.linspace(-0.5, 0.5, BINS + 1)
    low, high = min(extent.low for extent in extents), max(extent.high for extent in extents)
    if sum(extent.positive for extent in extents) > 0.98 * count:
        some = np.concatenate([extent.some for extent in extents])
        if np.median(some) * 25 < high:
            return np.geomspace(float(np.quantile(some, 0.01)), high, BINS + 1)
    pad = 0.5 * float(high == low)
    return np.linspace(low - pad, high + pad, BINS + 1)


def which_bin(values: Float[np.ndarray, " n"], edges: Edges) -> Int[np.ndarray, " n"]:
    """What lies outside the edges goes into the outermost bins, so that nobody is lost."""
    return np.searchsorted(edges[1:-1], values, side="right")


def score_figure(run: Run, scores: Scores, name: str) -> Drawing | None:
    """One row a round on one common axis, round 0 on one of its own; None where nothing was measured."""
    if not any(counts.any() for m in scores.rounds for counts in m.counts.values()):
        return None
    rows: list[Sequence[Cell]] = [
        (m.round, g, float(m.edges[b]), float(m.edges[b + 1]), int(n))
        for m in scores.rounds
        for g in GROUPS
        for b, n in enumerate(m.counts[g])
    ]
    table = Table(("round", "images", "score_from", "score_to", "count"), rows)
    with rc_context(STYLE):
        return drawn(name, f"Histograms of the score by round, {run.record.run_id}", _figure(scores.rounds), table)


WIDTH, LEFT, TOP, ROW, GAP, BOTTOM, OWN_AXIS = 380.0, 62.0, 62.0, 40.0, 10.0, 34.0, 14.0


def _figure(rounds: Sequence[Measured]) -> Figure:
    cold = len(rounds) > 1 and rounds[0].round == 0
    figure = sheet(WIDTH, TOP + len(rounds) * (ROW + GAP) + OWN_AXIS * cold + BOTTOM)
    words(figure, 0.0, 12.0, "Score of the images, as each round began", size=10.5, weight="bold")
    x = 0.0
    for text, color in (("unlabeled", GREY), ("labeled", BLUE), ("picked", VERMILLION), ("labeled mean", INK)):
        words(figure, x, 28.0, "▼" if color == INK else "■", color=color, size=8)
        words(figure, x + 11, 28.0, text, color=MUTED)
        x += 22 + 5.4 * len(text)
    words(figure, 0.0, 41.0, "each shape is scaled to its own peak; the counts are in the data", color=MUTED, size=7.5)
    for i, measured in enumerate(rounds):
        top = TOP + i * (ROW + GAP) + OWN_AXIS * (cold and i > 0)
        axes = panel(figure, LEFT, top, WIDTH - LEFT - 6, ROW)
        words(figure, 0.0, top + ROW - 12, f"round {measured.round}", size=9)
        words(
            figure, 0.0, top + ROW - 1, f"picked {count(int(measured.counts['picked'].sum()))}", size=7.5, color=MUTED
        )
        last = i == len(rounds) - 1
        _row(axes, measured, ticks=last or (cold and i == 0))
        if last:
            scale = ", on a log scale" if axes.get_xscale() == "log" else ""
            axes.set_xlabel(f"score{scale}: a larger one means “label me first”", loc="right")
    return figure


def _row(axes: Axes, measured: Measured, ticks: bool) -> None:
    """Three shapes, each scaled to its own peak: the picked ones are too few to be seen beside the others otherwise."""
    edges, counts = measured.edges, measured.counts
    for group, color in GROUPS.items():
        share = counts[group] / max(1, counts[group].max())
        alpha = {"unlabeled": 0.32, "labeled": 0.0, "picked": 0.55}[group]
        axes.stairs(share, edges, fill=True, color=color, alpha=alpha, linewidth=0) if alpha else None
        if group != "unlabeled" and counts[group].any():
            axes.stairs(np.where(share > 0, share, np.nan), edges, color=color, linewidth=0.9)
    if measured.labeled_mean is not None:
        mean = float(np.clip(measured.labeled_mean, edges[0], edges[-1]))
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
