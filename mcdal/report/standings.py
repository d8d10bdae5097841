"""All strategies against each other: who beats whom at how many budgets, and their ranks within the seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mcdal.report.experiments import Curve, Family
from mcdal.report.ink import BLUE, GREY, INK, MUTED, STYLE, Cell, Drawing, Table, drawn, panel, sheet, words
from mcdal.report.words import plural, shortened
from mcdal.statistics.curves import Ranks, area, penalties, ranks

WIDTH, NAMES, TOP, BOTTOM, ROW = 380.0, 104.0, 100.0, 10.0, 17.0


Curves: TypeAlias = Mapping[str, Mapping[int, Curve]]
"""Of each strategy by seed."""


@dataclass(frozen=True)
class Field:
    """Strategies over the seeds and numbers of labels that all of them have. values: strategy, seed, budget."""

    titles: Sequence[str]
    labels: Int[np.ndarray, " k"]
    values: Float[np.ndarray, "m s k"]


def field(curves: Curves) -> Field | None:
    """None where they have no seed or no number of labels in common."""
    seeds = sorted(set.intersection(*(set(of) for of in curves.values()))) if curves else []
    labels = sorted(set.intersection(*(set(of[s]) for of in curves.values() for s in seeds))) if seeds else []
    if not labels:
        return None
    values = [[[of[s][n] for n in labels] for s in seeds] for of in curves.values()]
    return Field(list(curves), np.array(labels), np.array(values))


def penalty_figure(family: Family, of: str, name: str) -> Drawing | None:
    """The pairwise penalty matrix (Ash et al. 2020): a row beats a column at this share of the budgets. of: which experiment.

    Each pair is compared over the seeds and budgets that both have, at least two seeds; where all begin from the same labels and
    the same model, the first budget is not among them. None below three strategies: a pair is told in words.
    """
    titles, beaten, seeds = beats(_curves(family))
    if len(titles) < 3:
        return None
    order = np.argsort(np.nanmean(beaten, 0) - np.nanmean(beaten, 1), kind="stable")
    titles, beaten = [titles[i] for i in order], beaten[np.ix_(order, order)]
    rows: list[Sequence[Cell]] = [
        (titles[i], titles[j], None if np.isnan(beaten[i, j]) else float(beaten[i, j]))
        for i in range(len(titles))
        for j in range(len(titles))
        if i != j
    ]
    with rc_context(STYLE):
        figure = sheet(WIDTH, TOP + ROW * (len(titles) + 1.4) + BOTTOM)
        words(figure, 0.0, 12.0, _headed("Who beats whom, % of the budgets", family), size=10.5, weight="bold")
        least, most = min(seeds), max(seeds)
        over = plural(most, "seed") if least == most else f"{least} to {plural(most, 'seed')}"
        said = f"row beats column by a paired t test at each budget, not adjusted; {over}"
        words(figure, 0.0, 27.0, said, color=MUTED)
        _matrix(figure, titles, beaten)
        alt = f"At what share of the budgets each strategy beats each other one, {_of(of, family)}"
        return drawn(name, alt, figure, Table(("winner", "loser", "share"), rows))


def beats(curves: Curves) -> tuple[list[str], Float[np.ndarray, "m m"], list[int]]:
    """At what share of the budgets a row's strategy beats a column's, and over how many seeds pairs were compared.

    Not a number on the diagonal and where a pair has no two seeds in common; strategies without any pair are left out.
    """
    found, seeds = np.full((len(curves), len(curves)), np.nan), []
    for (i, a), (j, b) in combinations(enumerate(curves), 2):
        pair = field({a: curves[a], b: curves[b]})
        if pair is None or pair.values.shape[1] < 2:
            continue
        values = pair.values
        if values.shape[2] > 1 and (values[0, :, 0] == values[1, :, 0]).all():  # the shared start, which nobody can win
            values = values[:, :, 1:]
        both = penalties(list(values))
        found[i, j], found[j, i] = both[0, 1], both[1, 0]
        seeds.append(values.shape[1])
    there = np.flatnonzero(~np.isnan(found).all(1))
    return [list(curves)[i] for i in there], found[np.ix_(there, there)], seeds


def rank_figure(family: Family, of: str, name: str) -> Drawing | None:
    """Mean ranks by area under the curve, with Nemenyi's critical difference (Demsar 2006)."""
    ranked_curves = comparable(_curves(family))
    found = field(ranked_curves)
    ranked = None if found is None else ranks(np.array([area(found.labels, v) for v in found.values]))
    if found is None or ranked is None:
        return None
    rows: list[Sequence[Cell]] = [(title, float(r)) for title, r in zip(found.titles, ranked.mean, strict=True)]
    with rc_context(STYLE):
        figure = _ranks(found, ranked, _headed("Mean rank by area under the curve", family))
        alt = f"Mean rank of each strategy by the area under its curve, {_of(of, family)}"
        return drawn(name, alt, figure, Table(("group", "mean_rank"), rows))


def comparable(curves: Curves) -> Curves:
    """Of the strategies with the most seeds so many that the runs which all of them have in common are the most."""
    ordered = sorted(curves, key=lambda title: -len(curves[title]))
    taken, most = 0, 0
    for m in range(3, len(ordered) + 1):
        seeds = set.intersection(*(set(curves[title]) for title in ordered[:m]))
        if len(seeds) > 1 and m * len(seeds) >= most:
            taken, most = m, m * len(seeds)
    kept = set(ordered[:taken])
    return {title: of for title, of in curves.items() if title in kept}


def unranked(family: Family) -> list[str]:
    """Strategies that would have to take seeds away from all others to be ranked among them."""
    curves = _curves(family)
    ranked = comparable(curves)
    return [title for title in curves if title not in ranked] if ranked else []


def _curves(family: Family) -> Curves:
    return {family.name(g): {run.record.seed: curve for run, curve in g.curves()} for g in family.groups if g.curves()}


def _headed(text: str, family: Family) -> str:
    return shortened(f"{text}; {family.title}", 62) if family.title else text


def _of(experiment: str, family: Family) -> str:
    return f"{experiment} · {family.title}" if family.title else experiment


def _matrix(figure: Figure, titles: Sequence[str], beaten: Float[np.ndarray, "m m"]) -> None:
    m = len(titles)
    width = min(WIDTH - NAMES - 30, 38.0 * m)
    axes = panel(figure, NAMES, TOP, width, ROW * m)
    _shades(axes, beaten)
    axes.xaxis.tick_top()
    steep = width / m < 30  # names would lie over each other
    axes.set_xticks(range(m), [shortened(t, 14 if steep else 16) for t in titles], size=8)
    for tick in axes.get_xticklabels():
        tick.set(rotation=90 if steep else 32, ha="center" if steep else "left")
    axes.set_yticks(range(m), [shortened(t, 18) for t in titles], size=8.5, color=INK)
    below = panel(figure, NAMES, TOP + ROW * (m + 0.4), width, ROW)
    _shades(below, np.nanmean(beaten, 0, keepdims=True))
    below.set_xticks([])
    below.set_yticks([0], ["mean: is beaten"], size=8.5, color=MUTED)


def _shades(axes: Axes, share: Float[np.ndarray, "r c"]) -> None:
    """Empty where it is not a number."""
    shade = np.empty((*share.shape, 4))
    shade[..., :3] = to_rgb(BLUE)
    shade[..., 3] = np.nan_to_num(0.03 + 0.6 * share)
    axes.imshow(shade, aspect="auto", interpolation="none")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if share.shape[1] <= 14:
        for (r, c), value in np.ndenumerate(share):
            if not np.isnan(value):
                axes.text(c, r, f"{100 * value:.0f}", ha="center", va="center", size=7.5, color=INK)


def _ranks(found: Field, ranked: Ranks, heading: str) -> Figure:
    """A dot a strategy, the best on top; a grey band reaches one critical difference from the best."""
    order = np.argsort(ranked.mean, kind="stable")
    m = len(order)
    figure = sheet(WIDTH, 42.0 + ROW * m + 44)
    words(figure, 0.0, 12.0, heading, size=10.5, weight="bold")
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
