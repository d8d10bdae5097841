"""All strategies against each other: who beats whom at how many budgets, and their ranks within the seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mcdal.report.experiments import Group
from mcdal.report.ink import BLUE, GREY, INK, MUTED, STYLE, Cell, Drawing, Table, drawn, panel, sheet, words
from mcdal.report.words import plural, shortened
from mcdal.statistics.curves import Ranks, area, penalties, ranks

WIDTH, NAMES, TOP, BOTTOM, ROW = 380.0, 104.0, 100.0, 10.0, 17.0


@dataclass(frozen=True)
class Field:
    """Strategies over the seeds and numbers of labels that all of them have. values: strategy, seed, budget."""

    titles: Sequence[str]
    labels: Int[np.ndarray, " k"]
    values: Float[np.ndarray, "m s k"]


def field(groups: Sequence[Group]) -> Field | None:
    """None below three strategies or two common seeds: a pair is told in words."""
    curves = {g.title: {run.record.seed: curve for run, curve in g.curves()} for g in groups if g.curves()}
    if len(curves) < 3:
        return None
    seeds = sorted(set.intersection(*(set(of) for of in curves.values())))
    labels = sorted(set.intersection(*(set(of[s]) for of in curves.values() for s in seeds))) if seeds else []
    if len(seeds) < 2 or not labels:
        return None
    values = [[[of[s][n] for n in labels] for s in seeds] for of in curves.values()]
    return Field(list(curves), np.array(labels), np.array(values))


def penalty_figure(groups: Sequence[Group], of: str, name: str) -> Drawing | None:
    """The pairwise penalty matrix (Ash et al. 2020): a row beats a column at this share of the budgets. of: which experiment."""
    found = field(groups)
    if found is None:
        return None
    beaten = penalties(list(found.values))
    order = np.argsort(beaten.mean(0) - beaten.mean(1), kind="stable")
    titles, beaten = [found.titles[i] for i in order], beaten[np.ix_(order, order)]
    rows: list[Sequence[Cell]] = [
        (titles[i], titles[j], float(beaten[i, j])) for i in range(len(titles)) for j in range(len(titles)) if i != j
    ]
    with rc_context(STYLE):
        figure = sheet(WIDTH, TOP + ROW * (len(titles) + 1.4) + BOTTOM)
        words(figure, 0.0, 12.0, "Who beats whom, % of the budgets", size=10.5, weight="bold")
        seeds, budgets = found.values.shape[1:]
        said = f"row beats column, paired t test at each of {plural(budgets, 'budget')}, {plural(seeds, 'seed')}"
        words(figure, 0.0, 27.0, said, color=MUTED)
        _matrix(figure, titles, beaten)
        alt = f"At what share of the budgets each strategy beats each other one, {of}"
        return drawn(name, alt, figure, Table(("winner", "loser", "share"), rows))


def rank_figure(groups: Sequence[Group], of: str, name: str) -> Drawing | None:
    """Mean ranks by area under the curve, with Nemenyi's critical difference (Demsar 2006)."""
    found = field(groups)
    ranked = None if found is None else ranks(np.array([area(found.labels, v) for v in found.values]))
    if found is None or ranked is None:
        return None
    rows: list[Sequence[Cell]] = [(title, float(r)) for title, r in zip(found.titles, ranked.mean, strict=True)]
    with rc_context(STYLE):
        figure = _ranks(found, ranked)
        alt = f"Mean rank of each strategy by the area under its curve, {of}"
        return drawn(name, alt, figure, Table(("group", "mean_rank"), rows))


def _matrix(figure: Figure, titles: Sequence[str], beaten: Float[np.ndarray, "m m"]) -> None:
    m = len(titles)
    width = min(WIDTH - NAMES - 30, 38.0 * m)
    axes = panel(figure, NAMES, TOP, width, ROW * m)
    _shades(axes, beaten, skip_diagonal=True)
    axes.xaxis.tick_top()
    steep = width / m < 30  # names would lie over each other
    axes.set_xticks(range(m), [shortened(t, 14 if steep else 16) for t in titles], size=8)
    for tick in axes.get_xticklabels():
        tick.set(rotation=90 if steep else 32, ha="center" if steep else "left")
    axes.set_yticks(range(m), [shortened(t, 18) for t in titles], size=8.5, color=INK)
    below = panel(figure, NAMES, TOP + ROW * (m + 0.4), width, ROW)
    _shades(below, beaten.sum(0, keepdims=True) / (m - 1), skip_diagonal=False)
    below.set_xticks([])
    below.set_yticks([0], ["mean: is beaten"], size=8.5, color=MUTED)


def _shades(axes: Axes, share: Float[np.ndarray, "r c"], skip_diagonal: bool) -> None:
    shade = np.empty((*share.shape, 4))
    shade[..., :3] = to_rgb(BLUE)
    shade[..., 3] = 0.03 + 0.6 * share
    axes.imshow(shade, aspect="auto", interpolation="none")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if share.shape[1] <= 14:
        for (r, c), value in np.ndenumerate(share):
            if not (skip_diagonal and r == c):
                axes.text(c, r, f"{100 * value:.0f}", ha="center", va="center", size=7.5, color=INK)


def _ranks(found: Field, ranked: Ranks) -> Figure:
    """A dot a strategy, the best on top; a grey band reaches one critical difference from the best."""
    order = np.argsort(ranked.mean, kind="stable")
    m = len(order)
    figure = sheet(WIDTH, 42.0 + ROW * m + 44)
    words(figure, 0.0, 12.0, "Mean rank by area under the curve", size=10.5, weight="bold")
    seeds = found.values.shape[1]
    all_alike = f"p {'< 0.001' if ranked.p < 0.001 else f'= {ranked.p:.2g}'} that all are alike (Friedman)"
    words(figure, 0.0, 27.0, f"{plural(seeds, 'seed')}; {all_alike}", color=MUTED)
    axes = panel(figure, NAMES, 42.0, WIDTH - NAMES - 16, ROW * m)
    best = float(ranked.mean.min())
    axes.axvspan(best, min(best + ranked.critical, m + 0.3), color=GREY, alpha=0.15, linewidth=0)
    axes.plot(ranked.mean[order], range(m), "o", color=INK, markersize=4.5)
    axes.set(xlim=(0.7, m + 0.3), ylim=(m - 0.5, -0.5))
    axes.set_yticks(range(m), [shortened(found.titles[i], 18) for i in order], size=8.5, color=INK)
    axes.set_xlabel(
        f"rank, 1 is best; grey: not shown to differ from the best (Nemenyi, {ranked.critical:.1f})", size=8
    )
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    return figure
