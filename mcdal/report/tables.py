"""A run's numbers by round."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mcdal.report.queries import Round, Run
from mcdal.report.words import count, duration, percent, plural, significant

COLUMNS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "test/accuracy": ("test accuracy", percent),
    "test/balanced_accuracy": ("balanced", percent),
    "test/mean_iou": ("test mean IoU", percent),
    "test/pixel_accuracy": ("pixel accuracy", percent),
    "test/loss": ("test loss", significant),
    "train/loss": ("train loss", significant),
    "train/accuracy": ("train accuracy", percent),
}


@dataclass(frozen=True)
class RoundTable:
    """Cells as text, an empty one where nothing was recorded."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def round_table(run: Run) -> RoundTable:
    """Labels, what was reached, and the time, with columns for what there is."""
    there = {name for r in run.rounds for name in r.metrics}
    shown = {name: column for name, column in COLUMNS.items() if name in there}
    rows = [
        [
            str(r.number),
            count(r.labeled),
            *(say(r.metrics[name]) if name in r.metrics else "" for name, (_, say) in shown.items()),
            duration(sum(r.seconds.values())) if r.seconds else "",
            _state(run, r),
        ]
        for r in run.rounds
    ]
    columns = ["round", "labels", *(title for title, _ in shown.values()), "time", "state"]
    if not any(row[-1] for row in rows):
        return RoundTable(columns[:-1], [row[:-1] for row in rows])
    return RoundTable(columns, rows)


def _state(run: Run, round: Round) -> str:
    missing = run.unanswered(round)
    if missing:
        return f"{count(missing)} of {plural(len(round.picks), 'label')} still to come"
    return "" if round.finished_at is not None else "not finished"


def metric_table(run: Run) -> RoundTable | None:
    """Every recorded number by name, one column a round, those of single classes left to their figures."""
    names = sorted({n for r in run.rounds for n in r.metrics if not n.startswith(run.kind.by_class)})
    if not names:
        return None
    rows = [[n, *(significant(r.metrics[n]) if n in r.metrics else "" for r in run.finished)] for n in names]
    return RoundTable(["round", *(str(r.number) for r in run.finished)], rows)
