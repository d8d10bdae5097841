"""How many annotations Label Studio wants of a task: never more than one beyond those that it has.

A task that stood out before anybody answered would tell who looks at it that it is of the audit, or is asked of two people.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from mcdal.label_studio.client import Client
from mcdal.label_studio.http import Json
from mcdal.label_studio.questions import Asked, mcdal_id


def is_begun(task: Json) -> bool:
    """Whether anybody has answered or skipped it, or is at it. A list holds drafts of the token's owner alone."""
    return bool(
        task.get("total_annotations")
        or task.get("cancelled_annotations")
        or task.get("draft_exists")
        or task.get("drafts")
    )


def ask_again(client: Client, questions: Mapping[str, Asked], tasks: Sequence[Json]) -> int:
    """Has Label Studio ask one more person, or nobody more, where it would not by itself; how many are asked again.

    questions: as they stand after the annotations of these tasks were taken.
    """
    of: dict[str, list[Json]] = defaultdict(list)
    for task in tasks:
        if (id := mcdal_id(task)) is not None and id in questions:
            of[id].append(task)
    again = 0
    for id, copies in of.items():
        for task, wanted in _wanted(questions[id], copies):
            if {name: task.get(name) for name in wanted} != wanted:
                client.change_task(task["id"], wanted)
                task |= wanted
                again += is_begun(task) and not wanted["is_labeled"]
    return again


def _wanted(question: Asked, copies: Sequence[Json]) -> Iterator[tuple[Json, Json]]:
    """Of several tasks of one image one is asked: that with the most annotations, whose people are given it no more."""
    begun = [task for task in copies if is_begun(task)]
    asks = max(begun, key=lambda task: (_had(task), -task["id"]), default=None)
    for task in copies:
        if task not in begun:
            if not question.closed:
                yield task, {"overlap": 1, "is_labeled": False}
            continue
        is_asked = task is asks and not question.closed
        yield task, {"overlap": max(1, _had(task) + is_asked), "is_labeled": not is_asked}


def _had(task: Json) -> int:
    return int(task.get("total_annotations") or 0)
