"""A table for a paper: strategies by numbers of labels, mean and standard deviation over seeds."""

import re
from collections.abc import Sequence

import numpy as np

from mcdal.report.experiments import Experiment, Family

COLUMNS = 8
"""More numbers of labels than these do not fit a page: evenly chosen ones stand for all, the first and the last among them."""
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    c: f"\\{c}" for c in "&%$#_{}"
}


def table(experiment: Experiment) -> str:
    """With booktabs' rules, one table a family. Empty where no round is finished in all runs of a group.

    In bold a column's best mean, where all strategies have the same seeds and do not all begin from the same model.
    """
    return "\n".join(told for family in experiment.families if (told := _of_family(experiment, family)))


def _of_family(experiment: Experiment, family: Family) -> str:
    groups = [g for g in family.groups if g.summaries()]
    at = sorted(set.intersection(*({s.labels for s in g.summaries()} for g in groups))) if groups else []
    if not at:
        return ""
    at = [at[i] for i in np.unique(np.linspace(0, len(at) - 1, min(COLUMNS, len(at))).round().astype(int))]
    values = {family.name(g): [[c[n] for _, c in g.curves()] for n in at] for g in groups}
    same_seeds = len({tuple(run.record.seed for run, _ in g.curves()) for g in groups}) == 1
    best = [_best([float(np.mean(of[i])) for of in values.values()], same_seeds) for i in range(len(at))]
    head = " & ".join(["labels", *(f"{n:,}".replace(",", r"\,") for n in at), "seeds"])
    rows = [
        " & ".join([_escaped(title), *(_cell(v, b) for v, b in zip(of, best, strict=True)), str(len(of[0]))])
        for title, of in values.items()
    ]
    of_what = f"{experiment.title} · {family.title}" if family.title else experiment.title
    comment = f"% {of_what}: {experiment.kind.headline_name} in %, mean and standard deviation over seeds"
    return "\n".join(
        [
            comment.replace("\n", " "),
            rf"\begin{{tabular}}{{l{'r' * len(at)}r}}",
            r"\toprule",
            head + r" \\",
            r"\midrule",
            *(row + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _best(means: Sequence[float], same_seeds: bool) -> float | None:
    """What is printed in bold; None where nothing is better than all else, or could be by its seeds alone."""
    return max(means) if same_seeds and max(means) > min(means) else None


def _cell(values: Sequence[float], best: float | None) -> str:
    mean = float(np.mean(values))
    text = f"{100 * mean:.2f}"
    text = rf"\textbf{{{text}}}" if best is not None and mean >= best else text
    return text + (rf" $\pm$ {100 * float(np.std(values, ddof=1)):.2f}" if len(values) > 1 else "")


def _escaped(text: str) -> str:
    return re.sub(r"[\\~^&%$#_{}]", lambda found: SPECIAL[found[0]], text)
