"""Annotations as answers of the campaign: what they say now is compared with what stands, and the difference is recorded."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from mcdal.campaign.definition import Opened
from mcdal.campaign.ledger import Given
from mcdal.label_studio.client import Client
from mcdal.label_studio.connection import Connection, alone, the_project
from mcdal.label_studio.http import Json
from mcdal.label_studio.opinions import Opinion, control_of, opinions
from mcdal.label_studio.overlap import ask_again
from mcdal.label_studio.people import Users
from mcdal.label_studio.questions import Asked, Pulled, Recorded, asked, key_of, mcdal_id, recorded, stands
from mcdal.label_studio.report import Report

Who = tuple[str, str]
"""Image and person."""


def pull(campaign: Opened, client: Client, connection: Connection, changed_after: str = "") -> Report:
    """All annotations, or those of tasks that changed after a time as the server wrote it: `newest` of the report before."""
    with alone(campaign.folder):
        project = the_project(client, connection)
        tasks = list(client.tasks(connection.project, changed_after))
        return take(campaign, client, connection, project, tasks, not changed_after)


def pull_tasks(campaign: Opened, client: Client, connection: Connection, numbers: Iterable[int]) -> Report:
    """The annotations of these tasks alone, as after a webhook."""
    with alone(campaign.folder):
        project = the_project(client, connection)
        found = [task for number in dict.fromkeys(numbers) if (task := client.task(number)) is not None]
        mine = [task for task in found if task.get("project") == connection.project]
        return take(campaign, client, connection, project, mine, False)


def take(
    campaign: Opened, client: Client, connection: Connection, project: Json, tasks: Sequence[Json], whole: bool
) -> Report:
    """What the annotations of these tasks say, as answers; who is to be asked next is set in Label Studio.

    For whoever holds the lock. whole: the tasks are all that there are.
    """
    report = Report(newest=max((str(task.get("updated_at", "")) for task in tasks), default=""))
    control = control_of(project)
    ids = [id for task in tasks if (id := mcdal_id(task)) is not None]
    questions = asked(campaign, ids)
    listed = {int(task["id"]) for task in tasks}
    past = recorded(campaign, connection.stamp, listed)
    users = Users(campaign.ledger, client, past.persons, tasks)
    said = list(opinions(control, campaign.ledger.classes(), users, tasks, questions, report))
    before = {(p.sample_id, p.person_id): p for p in stands(campaign, None if whole else ids)}
    wanted = _newest(said, before, connection.stamp, listed, report)
    _take_back(campaign, before, wanted, connection.stamp, listed, report)
    _record(campaign, connection.stamp, users, before, wanted, past, questions, report)
    if whole:
        for standing in before.values():
            if standing.stamp == connection.stamp and standing.task not in listed:
                report.tell("gone", standing.sample_id)
    now = asked(campaign, ids) if report.changes else questions
    report.kinds["asked again"] += ask_again(client, now, tasks)
    return report


def _newest(
    said: Sequence[Opinion], before: Mapping[Who, Pulled], stamp: str, listed: set[int], report: Report
) -> dict[Who, Opinion]:
    """Of each person and image the newest annotation, whatever the others say."""
    found: dict[Who, Opinion] = {}
    for opinion in sorted(said, key=lambda o: o.age):
        who = opinion.sample_id, opinion.person_id
        if (older := found.get(who)) is not None:
            report.tell("duplicate", f"annotation {older.annotation} of {older.sample_id!r}")
        found[who] = opinion
    for who, standing in before.items():
        # What stands may be of a second task of the image, which was not looked at now.
        elsewhere = standing.stamp == stamp and standing.task not in listed
        if who in found and elsewhere and (standing.updated, standing.annotation) > found[who].age:
            del found[who]
    return found


def _take_back(
    campaign: Opened, before: Mapping[Who, Pulled], wanted: Mapping[Who, Opinion], stamp: str, listed: set[int],
    report: Report,
) -> None:  # fmt: skip
    """Answers whose annotation was deleted, or says nothing any more."""
    for who, standing in before.items():
        now = wanted.get(who)
        is_here = standing.stamp == stamp and standing.task in listed
        if is_here and (now is None or (now.verdict is None and not now.unread)):
            receipt, _ = campaign.ledger.undo(standing.person_id, f"{standing.key}/undo", standing.key)
            report.count(receipt, "deleted", standing.sample_id)


def _record(
    campaign: Opened, stamp: str, users: Users, before: Mapping[Who, Pulled], wanted: Mapping[Who, Opinion],
    past: Recorded, questions: Mapping[str, Asked], report: Report,
) -> None:  # fmt: skip
    """What is said otherwise than it stands; of each image in the order in which it was said."""
    keys = {o: key_of(stamp, o.task, o.annotation, o.updated) for o in wanted.values()}
    differ = [o for who, o in wanted.items() if _differs(o, before.get(who), stamp, past.used[keys[o]])]
    if differ:
        users.see(o.person_id for o in differ)
    for person, part in _by_person(differ):
        given = [_given(opinion, keys[opinion], past.used[keys[opinion]]) for opinion in part]
        for opinion, receipt in zip(part, campaign.ledger.answer(person, given), strict=True):
            is_new = (opinion.sample_id, person) not in before
            report.count(receipt, "new" if is_new else "corrected", opinion.sample_id)
            if is_new and receipt.status == "recorded" and questions[opinion.sample_id].closed:
                report.kinds["late"] += 1  # of an image that is settled, or asked no more


def _differs(opinion: Opinion, standing: Pulled | None, stamp: str, used: int) -> bool:
    """used: how often it was said before."""
    if opinion.verdict is None or standing is None:
        return opinion.verdict is not None
    if standing.stamp == stamp:
        return (standing.verdict, standing.value) != (opinion.verdict, opinion.value)
    # The person has answered since, elsewhere: what was taken before is old, and so is what was changed before.
    return not used and opinion.updated > standing.updated


def _by_person(differ: Sequence[Opinion]) -> Iterator[tuple[str, list[Opinion]]]:
    """Few groups, each of one person: first the first opinion of every image, then the second, and so on."""
    place: Counter[str] = Counter()
    keyed = []
    for opinion in sorted(differ, key=lambda o: o.age):
        keyed.append((place[opinion.sample_id], opinion.person_id, opinion))
        place[opinion.sample_id] += 1
    keyed.sort(key=lambda each: each[:2])
    for (_, person), part in groupby(keyed, key=lambda each: each[:2]):
        yield person, [opinion for _, _, opinion in part]


def _given(opinion: Opinion, key: str, used: int) -> Given:
    """used: how often it was said; it may have been taken back since, or followed by another that was deleted."""
    assert opinion.verdict is not None
    key = f"{key}/again{used}" if used else key
    return Given(key, opinion.sample_id, opinion.verdict, opinion.value, opinion.seconds)
