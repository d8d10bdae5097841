"""What annotations say, one by one: whose opinion of which image, or why it is none."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcdal.errors import CampaignError
from mcdal.label_studio.http import Json
from mcdal.label_studio.people import Users
from mcdal.label_studio.questions import Asked, mcdal_id
from mcdal.label_studio.report import Report
from mcdal.label_studio.shapes import CANNOT_TELL, Control, chosen, read_interface

DAY = 86_400.0
LABEL, SKIP, UNCLEAR = "label", "skip", "cannot_tell"


@dataclass(frozen=True)
class Opinion:
    """What one annotation says. verdict: None where it is no answer; unread: it may be one, so that what stands shall stay."""

    sample_id: str
    person_id: str
    task: int
    annotation: int
    updated: str
    verdict: str | None
    value: int | None
    seconds: float | None
    unread: bool = False

    @property
    def age(self) -> tuple[str, int]:
        return self.updated, self.annotation


def control_of(project: Json) -> Control:
    """CampaignError where there is none: what people answered must not be taken for taken back."""
    found = read_interface(project["label_config"]).of_kind("choices")
    if len(found) != 1:
        raise CampaignError(
            f"the project's labeling interface has {len(found)} <Choices> for an <Image>, not one: change it back"
        )
    return found[0]


def opinions(
    control: Control, classes: Sequence[str], users: Users, tasks: Sequence[Json], questions: Mapping[str, Asked],
    report: Report,
) -> Iterator[Opinion]:  # fmt: skip
    """Of all annotations of these tasks; those that are none of this campaign are told."""
    numbers = {name: i for i, name in enumerate(classes)}
    for task in tasks:
        id, annotations = mcdal_id(task), task.get("annotations") or []
        report.annotations += len(annotations)
        if id is None or id not in questions:
            for _ in annotations:
                kind, what = ("foreign", f"task {task['id']}") if id is None else ("unknown id", repr(id))
                report.tell(kind, what)
            continue
        for annotation in annotations:
            yield _opinion(control, numbers, users, id, int(task["id"]), annotation, report)


def _opinion(
    control: Control, numbers: Mapping[str, int], users: Users, id: str, task: int, annotation: Json, report: Report
) -> Opinion:
    person, where = users.author(task, annotation), f"annotation {annotation['id']} of {id!r}"
    at = task, int(annotation["id"]), str(annotation["updated_at"])
    if users.is_removed(person):
        report.tell("removed", where)
        return Opinion(id, person, *at, None, None, None, unread=True)
    verdict, value = _says(control, annotation, numbers, where, report)
    others = verdict is None and not _is_of(control, annotation)
    return Opinion(id, person, *at, verdict, value, _seconds(annotation.get("lead_time")), unread=others)


def _is_of(control: Control, annotation: Json) -> bool:
    """Whether its results are empty or of this control: what another one says may be an answer under an older name of it."""
    results = annotation.get("result")
    return isinstance(results, list) and all(
        isinstance(r, dict) and r.get("from_name") == control.name for r in results
    )


def _says(
    control: Control, annotation: Json, numbers: Mapping[str, int], where: str, report: Report
) -> tuple[str | None, int | None]:
    """Verdict and class number; None where it is no answer, which the report then names."""
    if annotation.get("was_cancelled"):
        return SKIP, None
    said = chosen(control, annotation.get("result"))
    if len(said) != 1:
        report.tell("several" if said else "partial", where)
        return None, None
    if said[0] in numbers:
        return LABEL, numbers[said[0]]
    stored = next((v for v, shown in control.names.items() if shown == said[0]), said[0])
    if stored in numbers:
        return LABEL, numbers[stored]
    if said[0] == CANNOT_TELL:
        return UNCLEAR, None
    report.tell("unknown class", f"{said[0]!r}, {where}")
    return None, None


def _seconds(lead_time: Any) -> float | None:
    """That somebody looked at the image; None where it is no time."""
    if isinstance(lead_time, bool) or not isinstance(lead_time, int | float) or not 0 <= lead_time <= DAY:
        return None
    return float(lead_time)
