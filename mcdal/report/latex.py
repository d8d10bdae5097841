"""A table for a paper: strategies by numbers of labels, mean and standard deviation over seeds."""

import re
from collections.abc import Sequence

import numpy as np

from mcdal.report.experiments import Experiment

COLUMNS = 8
"""More numbers of labels than these do not fit a page: evenly chosen ones stand for all, the first and the last among them."""
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    c: f"\\{c}" for c in "&%$#_{}"
}


def table(experiment: Experiment) -> str:
    """With booktabs' rules; in bold a column's best mean. Empty where no round is finished in all runs of a group."""
    groups = [g for g in experiment.groups if g.summaries()]
    at = sorted(set.intersection(*({s.labels for s in g.summaries()} for g in groups))) if groups else []
    if not at:
        return ""
    at = [at[i] for i in np.unique(np.linspace(0, len(at) - 1, min(COLUMNS, len(at))).round().astype(int))]
    values = {g.title: [[c[n] for _, c in g.curves()] for n in at] for g in groups}
    best = [max(float(np.mean(of[i])) for of in values.values()) for i in range(len(at))]
    head = " & ".join(["labels", *(f"{n:,}".replace(",", r"\,") for n in at), "seeds"])
    rows = [
        " & ".join([_escaped(title), *(_cell(v, b) for v, b in zip(of, best, strict=True)), str(len(of[0]))])
        for title, of in values.items()
    ]
    comment = f"% {experiment.title}: {experiment.kind.headline_name} in %, mean and standard deviation over seeds"
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


def _cell(values: Sequence[float], best: float) -> str:
    mean = float(np.mean(values))
    text = f"{100 * mean:.2f}"
    text = rf"\textbf{{{text}}}" if mean >= best else text
    return text + (rf" $\pm$ {100 * float(np.std(values, ddof=1)):.2f}" if len(values) > 1 else "")


def _escaped(text: str) -> str:
    return re.sub(r"[\\~^&%$#_{}]", lambda found: SPECIAL[found[0]], text)
