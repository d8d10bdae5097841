"""Annotations as answers of the campaign: what they say now is compared with what stands, and the difference is recorded."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from mcdal.campaign.definition import Opened
from mcdal.campaign.ledger import Given, Receipt
from mcdal.errors import CampaignError
from mcdal.label_studio.client import Client, Json
from mcdal.label_studio.connection import Connection, alone
from mcdal.label_studio.people import Users
from mcdal.label_studio.push import mcdal_id, the_project
from mcdal.label_studio.questions import Asked, Pulled, asked, key_of, said_before, stands
from mcdal.label_studio.shapes import CANNOT_TELL, Control, chosen, read_interface

NAMED = 5
DAY = 86_400.0
LABEL, SKIP, UNCLEAR = "label", "skip", "cannot_tell"


@dataclass
class Report:
    """What a pull found. kinds counts by what became of an annotation; told names those that somebody should look at."""

    annotations: int = 0
    newest: str = ""
    kinds: Counter[str] = field(default_factory=Counter)
    told: dict[str, list[str]] = field(default_factory=dict)

    def tell(self, kind: str, what: str) -> None:
        self.kinds[kind] += 1
        self.told.setdefault(kind, []).append(what)

    @property
    def changes(self) -> int:
        """How many answers were recorded or taken back."""
        return sum(self.kinds[kind] for kind in ("new", "corrected", "deleted"))

    def lines(self) -> list[str]:
        counted = [f"{self.kinds[kind]} {kind}" for kind in ("new", "corrected", "deleted", "late") if self.kinds[kind]]
        said = [f"{self.annotations} annotations: {', '.join(counted) or 'nothing new'}"]
        for kind, names in self.told.items():
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            said.append(f"  {WORDS[kind].format(n=len(names))}: {'; '.join(names[:NAMED])}{more}")
        return said


WORDS = {
    "foreign": "{n} annotations of tasks without mcdal_id, which are not of this campaign",
    "unknown id": "{n} annotations of images that this campaign did not ask about",
    "partial": "{n} annotations without a class, which count as no answer: finish or delete them in Label Studio",
    "several": "{n} annotations with several classes, which count as no answer: choose one",
    "unknown class": "{n} annotations with a class that the campaign does not have (`mcdal campaign classes --add`, pull again)",
    "duplicate": "{n} older annotations of somebody who has a newer one of the same image",
    "refused": "{n} answers that the campaign does not take",
    "removed": "{n} annotations of people who were removed from the campaign",
    "gone": "{n} answers whose tasks were deleted; they stay",
}


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


def pull(campaign: Opened, client: Client, connection: Connection, changed_after: str = "") -> Report:
    """All annotations, or those of tasks that changed after a time as the server wrote it: `newest` of the report before."""
    with alone(campaign.folder):
        project = the_project(client, connection)
        return _take(
            campaign,
            client,
            connection,
            project,
            list(client.tasks(connection.project, changed_after)),
            not changed_after,
        )


def pull_tasks(campaign: Opened, client: Client, connection: Connection, numbers: Iterable[int]) -> Report:
    """The annotations of these tasks alone, as after a webhook."""
    with alone(campaign.folder):
        project = the_project(client, connection)
        found = [task for number in dict.fromkeys(numbers) if (task := client.task(number)) is not None]
        mine = [task for task in found if task.get("project") == connection.project]
        return _take(campaign, client, connection, project, mine, False)


def _take(
    campaign: Opened, client: Client, connection: Connection, project: Json, tasks: Sequence[Json], whole: bool
) -> Report:
    report = Report(newest=max((str(task.get("updated_at", "")) for task in tasks), default=""))
    control = _control(project)
    ids = [id for task in tasks if (id := mcdal_id(task)) is not None]
    questions = asked(campaign, ids)
    users = Users(campaign.ledger, client.users() if any(task.get("annotations") for task in tasks) else {})
    opinions = list(_opinions(campaign, control, users, tasks, questions, report))
    listed = {int(task["id"]) for task in tasks}
    before = {(p.sample_id, p.person_id): p for p in stands(campaign, connection.stamp)}
    wanted = _newest(opinions, before, listed, report)
    _take_back(campaign, before, wanted, listed, report)
    _record(campaign, connection, users, before, wanted, questions, report)
    if whole:
        for standing in before.values():
            if standing.task not in listed:
                report.tell("gone", standing.sample_id)
    return report


def _control(project: Json) -> Control:
    """CampaignError where there is none: what people answered must not be taken for taken back."""
    found = read_interface(project["label_config"]).of_kind("choices")
    if len(found) != 1:
        raise CampaignError(
            f"the project's labeling interface has {len(found)} <Choices> for an <Image>, not one: change it back"
        )
    return found[0]


def _opinions(
    campaign: Opened, control: Control, users: Users, tasks: Sequence[Json], questions: Mapping[str, Asked],
    report: Report,
) -> Iterator[Opinion]:  # fmt: skip
    numbers = {name: i for i, name in enumerate(campaign.ledger.classes())}
    for task in tasks:
        id, annotations = mcdal_id(task), task.get("annotations") or []
        report.annotations += len(annotations)
        if id is None or id not in questions:
            for _ in annotations:
                kind, what = ("foreign", f"task {task['id']}") if id is None else ("unknown id", repr(id))
                report.tell(kind, what)
            continue
        for annotation in annotations:
            person = users.person(_author(annotation))
            where = f"annotation {annotation['id']} of {id!r}"
            at = int(task["id"]), int(annotation["id"]), str(annotation["updated_at"])
            if users.is_removed(person):
                report.tell("removed", where)
                yield Opinion(id, person, *at, None, None, None, unread=True)
                continue
            verdict, value = _says(control, annotation, numbers, where, report)
            others = verdict is None and not _is_of(control, annotation)
            yield Opinion(id, person, *at, verdict, value, _seconds(annotation.get("lead_time")), unread=others)


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


def _newest(
    opinions: Sequence[Opinion], before: Mapping[tuple[str, str], Pulled], listed: set[int], report: Report
) -> dict[tuple[str, str], Opinion]:
    """Of each person and image the newest annotation, whatever the others say."""
    found: dict[tuple[str, str], Opinion] = {}
    for opinion in sorted(opinions, key=lambda o: o.age):
        who = opinion.sample_id, opinion.person_id
        if (older := found.get(who)) is not None:
            report.tell("duplicate", f"annotation {older.annotation} of {older.sample_id!r}")
        found[who] = opinion
    for who, standing in before.items():
        # What stands may be of a second task of the image, which was not looked at now.
        if who in found and standing.task not in listed and (standing.updated, standing.annotation) > found[who].age:
            del found[who]
    return found


def _take_back(
    campaign: Opened, before: Mapping[tuple[str, str], Pulled], wanted: Mapping[tuple[str, str], Opinion], listed: set[int],
    report: Report,
) -> None:  # fmt: skip
    """Answers whose annotation was deleted, or says nothing any more."""
    for who, standing in before.items():
        now = wanted.get(who)
        if standing.task in listed and (now is None or (now.verdict is None and not now.unread)):
            receipt, _ = campaign.ledger.undo(standing.person_id, f"{standing.key}/undo", standing.key)
            _count(report, receipt, "deleted", standing.sample_id)


def _record(
    campaign: Opened, connection: Connection, users: Users, before: Mapping[tuple[str, str], Pulled],
    wanted: Mapping[tuple[str, str], Opinion], questions: Mapping[str, Asked], report: Report,
) -> None:  # fmt: skip
    """What is said otherwise than it stands, in the order in which it was said."""
    differ = [
        opinion
        for who, opinion in wanted.items()
        if opinion.verdict is not None
        and (
            (standing := before.get(who)) is None
            or (standing.verdict, standing.value) != (opinion.verdict, opinion.value)
        )
    ]
    differ.sort(key=lambda o: o.age)
    if differ:
        users.see(o.person_id for o in differ)
    keys = {o: key_of(connection.stamp, o.task, o.annotation, o.updated) for o in differ}
    used = said_before(campaign, list(keys.values()))
    for person, said in groupby(differ, key=lambda o: o.person_id):
        part = list(said)
        given = [_given(opinion, keys[opinion], used[keys[opinion]]) for opinion in part]
        for opinion, receipt in zip(part, campaign.ledger.answer(person, given), strict=True):
            is_new = (opinion.sample_id, person) not in before
            _count(report, receipt, "new" if is_new else "corrected", opinion.sample_id)
            if is_new and receipt.status == "recorded" and questions[opinion.sample_id].closed:
                report.kinds["late"] += 1  # an opinion more on an image that is settled


def _given(opinion: Opinion, key: str, used: int) -> Given:
    """used: how often it was said; it may have been taken back since, or followed by another that was deleted."""
    assert opinion.verdict is not None
    key = f"{key}/again{used}" if used else key
    return Given(key, opinion.sample_id, opinion.verdict, opinion.value, opinion.seconds)


def _count(report: Report, receipt: Receipt, kind: str, id: str) -> None:
    if receipt.status == "refused":
        report.tell("refused", f"{id!r}: {receipt.message}")
    elif receipt.status == "recorded":
        report.kinds[kind] += 1


def _author(annotation: Mapping[str, Any]) -> int | None:
    """A number in lists, an object in single tasks; nobody where the user was deleted."""
    by = annotation.get("completed_by")
    by = by.get("id") if isinstance(by, dict) else by
    return int(by) if isinstance(by, int) else None


def _seconds(lead_time: Any) -> float | None:
    """That somebody looked at the image; None where it is no time."""
    if isinstance(lead_time, bool) or not isinstance(lead_time, int | float) or not 0 <= lead_time <= DAY:
        return None
    return float(lead_time)
