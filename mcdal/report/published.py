"""What the paper gives in numbers, to be set beside what was measured under the same protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from mcdal.config import Protocol
from mcdal.pool.cifar import JPEG_COPIES
from mcdal.report.experiments import Experiment, Group
from mcdal.report.queries import Run
from mcdal.report.words import count, percent, plural

PAPER = "Cho et al. 2022"


@dataclass(frozen=True)
class Published:
    """MCDAL's headline metric at the last budget of the protocol, 40 % of the pool. spread: as printed behind its ±."""

    value: float
    spread: float
    all_labels: float | None = None


MCDAL: Mapping[str, Published] = {
    "cifar10": Published(0.9392, 0.0024, all_labels=0.9451),
    "cifar100": Published(0.6716, 0.0028),
    "caltech101": Published(0.9081, 0.0035),
    "cityscapes": Published(0.579, 0.0016),
}
"""The other methods' numbers exist as drawn curves only."""


def published(experiment: Experiment) -> list[str]:
    """Sentences, where the experiment is the paper's; none at another scale, with changed settings or of other data."""
    found = MCDAL.get(experiment.recipe)
    if found is None or experiment.scale != "full" or not experiment.groups:
        return []
    as_published = [g for g in experiment.groups if not g.overrides]
    if not as_published:
        return []
    labels = _last(as_published[0].runs[0])
    mine = next(
        (said for g in as_published if g.strategy == "mcdal" and (said := _here(g, labels))), "not measured here"
    )
    spread = f"{100 * found.spread:.2f}"
    most = f" (with all labels {100 * found.all_labels:.2f})" if found.all_labels else ""
    notes = {note for g in as_published for run in g.runs for note in run.record.notes}
    copies = " (of JPEG copies of the images)" if JPEG_COPIES in notes else ""
    return [
        f"MCDAL with {count(labels)} labels: {100 * found.value:.2f} ± {spread} in the paper ({PAPER}){most}; {mine}{copies}."
    ]


def _last(run: Run) -> int:
    """How many labels the protocol ends with."""
    recorded = run.record.config["protocol"]
    known = {field.name: recorded[field.name] for field in fields(Protocol) if field.name in recorded}
    return sum(Protocol(**known).sizes(run.record.pool_size))


def _here(group: Group, labels: int) -> str:
    at = [s for s in group.summaries() if s.labels == labels]
    return f"here {percent(at[0].mean)}, {plural(at[0].seeds, 'seed')}" if at else ""
