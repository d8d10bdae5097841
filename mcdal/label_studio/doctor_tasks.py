"""The doctor's look at tasks: whether each is there once, comes in its order, and shows its image."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from mcdal.campaign.definition import Opened
from mcdal.errors import CampaignError
from mcdal.label_studio.checks import Check, Patient
from mcdal.label_studio.connection import Connection
from mcdal.label_studio.http import Json
from mcdal.label_studio.images import address
from mcdal.label_studio.questions import asked, mcdal_id, model_version
from mcdal.label_studio.shapes import read_interface

FEW = 3
MOST_BYTES = 64 << 20
"""Of an image that is tried."""


def tasks(patient: Patient) -> Iterator[Check]:
    assert patient.campaign is not None
    questions = asked(patient.campaign)
    counts = Counter(id for task in patient.tasks if (id := mcdal_id(task)) is not None)
    foreign = sum(mcdal_id(task) is None for task in patient.tasks)
    unknown = [id for id in counts if id not in questions]
    doubled = [id for id, n in counts.items() if n > 1]
    missing = [q.sample_id for q in questions.values() if not q.closed and q.sample_id not in counts]
    for found, words, todo in (
        (missing, "open questions have no task", "push"),
        (doubled, "images have several tasks", "push takes those away that nobody has answered"),
        (
            unknown,
            "tasks have an mcdal_id that this campaign did not ask about",
            "delete them, or connect their own campaign",
        ),
    ):
        if found:
            named = ", ".join(map(repr, found[:FEW]))
            yield Check("tasks", "look", f"{len(found)} {words}: {named}", todo)
    if foreign:
        yield Check("tasks", "look", f"{foreign} tasks without mcdal_id: what is said of them is not pulled")
    if not (missing or doubled or unknown or foreign):
        yield Check("tasks", "ok", "each open question has one")


def order(patient: Patient) -> Iterator[Check]:
    assert patient.campaign is not None
    version, questions = model_version(patient.campaign), asked(patient.campaign)
    unscored = wrong = 0
    for task in patient.tasks:
        question = questions.get(mcdal_id(task) or "")
        if question is None or question.closed:
            continue
        scores = [p.get("score") for p in task.get("predictions", []) if p.get("model_version") == version]
        unscored += not scores
        wrong += any(s is None or abs(s - question.score) > 1e-6 for s in scores)
    if unscored or wrong:
        said = f"{unscored} open tasks have no score of {version}, {wrong} have another one than mcdal's"
        yield Check(
            "order", "wrong", said, "push gives what is missing; delete other predictions of this model version"
        )
    else:
        yield Check("order", "ok", f"all open tasks have their score of {version}")


def predictions(patient: Patient) -> Iterator[Check]:
    """Label Studio takes predictions for controls that do not exist, and shows nothing."""
    assert patient.project is not None
    names = {control.name for control in read_interface(patient.project["label_config"]).controls}
    wrong = sorted({
        str(result.get("from_name")) for task in patient.tasks for p in task.get("predictions", [])
        for result in _results(p) if result.get("from_name") not in names
    })  # fmt: skip
    if wrong:
        said = f"predictions for controls that the interface does not have: {', '.join(wrong[:FEW])}"
        yield Check(
            "predictions", "look", said, "Label Studio shows nothing of them: send them again under the right from_name"
        )


def _results(prediction: Json) -> list[dict[str, Any]]:
    found = prediction.get("result")
    return [result for result in found if isinstance(result, dict)] if isinstance(found, list) else []


def image(patient: Patient) -> Iterator[Check]:
    """The first task's, as the page would get it. Only addresses that push gives are tried: a task may name any."""
    assert patient.campaign is not None and patient.connection is not None
    mine = [task for task in patient.tasks if mcdal_id(task) is not None]
    named = {task["id"]: _named(patient.campaign, patient.connection, task) for task in mine}
    if wrong := [task for task in mine if named[task["id"]] is None]:
        said = ", ".join(f"task {task['id']} has {task['data'].get('image')!r}" for task in wrong[:FEW])
        todo = (
            "connect again as images are to be had (--image-url, --local-root, --upload), delete these tasks, and push"
        )
        yield Check("image", "wrong", f"{len(wrong)} tasks show no image from where push says: {said}", todo)
    first = next((found for found in named.values() if found is not None), None)
    if first is None:
        return
    media, size = patient.client.size(first, MOST_BYTES)
    if media.startswith("image/"):
        yield Check("image", "ok", f"{first}: {media}, {size} bytes")
    else:
        todo = "connect again with --image-url or --local-root that fit, and delete the tasks"
        yield Check("image", "wrong", f"{first} is {media or 'of no type'}, no image", todo)


def _named(campaign: Opened, connection: Connection, task: Json) -> str | None:
    """The address of its image, where it is one that push gave."""
    found, id = task["data"].get("image"), mcdal_id(task)
    assert id is not None
    if not isinstance(found, str):
        return None
    if connection.images == "upload":
        return found if found.startswith("/data/upload/") and ".." not in found else None
    try:
        return found if found == address(campaign, connection, id) else None
    except CampaignError:
        return None
