"""Looks for what goes wrong between a campaign and its Label Studio, each with what was seen and what to do."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from mcdal.campaign.definition import Opened
from mcdal.errors import CampaignError
from mcdal.label_studio.client import Client, Json
from mcdal.label_studio.connect import SAMPLING, SKIPPED
from mcdal.label_studio.connection import Connection, stamp_of
from mcdal.label_studio.push import mcdal_id
from mcdal.label_studio.questions import asked, model_version
from mcdal.label_studio.register import FOR_PRIVATE, TITLE, backend_at, is_private, webhook_at
from mcdal.label_studio.shapes import classifier, read_interface

SLOW_SECONDS = 2.0
FEW = 3

Verdict = Literal["ok", "look", "wrong"]


@dataclass(frozen=True)
class Check:
    """look: it works, but not as it could. wrong: answers, order or predictions are lost. todo: empty where nothing is."""

    name: str
    verdict: Verdict
    seen: str
    todo: str = ""

    def line(self) -> str:
        return f"{self.verdict:<5} {self.name}: {self.seen}" + (f"\n      -> {self.todo}" if self.todo else "")


@dataclass
class Patient:
    """What the checks look at; project and tasks are read once."""

    client: Client
    campaign: Opened | None = None
    connection: Connection | None = None
    backend: str | None = None
    project: Json | None = None
    tasks: tuple[Json, ...] = ()


def diagnose(
    client: Client, campaign: Opened | None = None, connection: Connection | None = None, backend: str | None = None
) -> Iterator[Check]:
    """All checks, each as soon as it is made. Without a campaign the server and the token alone are looked at.

    backend: an address that Label Studio should reach; it is tried and taken away again.
    """
    patient = Patient(client, campaign, connection, backend)
    checks: list[Callable[[Patient], Iterator[Check]]] = [_server, _token]
    if campaign is not None and connection is not None:
        checks += [_project, _interface, _settings, _tasks, _order, _others_predictions, _image]
    if connection is not None:
        checks += [_backends]
    for check in checks:
        try:
            yield from check(patient)
        except CampaignError as error:
            yield Check(check.__name__.strip("_"), "wrong", str(error))
            if check in (_server, _token, _project):
                return


def _server(patient: Patient) -> Iterator[Check]:
    begun = time.monotonic()
    version = patient.client.version()
    took = time.monotonic() - begun
    if took > SLOW_SECONDS:
        yield Check(
            "server", "look", f"Label Studio {version} took {took:.1f} s to say its version", "see what keeps it busy"
        )
    else:
        yield Check("server", "ok", f"Label Studio {version} at {patient.client.url}")


def _token(patient: Patient) -> Iterator[Check]:
    yield Check("token", "ok", f"of {patient.client.whoami().get('email') or 'a user without e-mail'}")


def _project(patient: Patient) -> Iterator[Check]:
    assert patient.connection is not None
    project = patient.client.project(patient.connection.project)
    if stamp_of(project) != patient.connection.stamp:
        raise CampaignError(f"project {project['id']} is another one than was connected: connect again with --project")
    patient.project, patient.tasks = project, tuple(patient.client.tasks(patient.connection.project))
    yield Check("project", "ok", f"{project['title']!r}, {len(patient.tasks)} tasks")


def _interface(patient: Patient) -> Iterator[Check]:
    assert patient.campaign is not None and patient.project is not None
    control, missing = classifier(patient.project["label_config"], patient.campaign.ledger.classes())
    if missing:
        yield Check("interface", "wrong", f"lacks the classes {', '.join(missing)}", "push adds them")
    else:
        yield Check("interface", "ok", f"answers come from <Choices name={control.name!r}>, and all classes are there")


def _settings(patient: Patient) -> Iterator[Check]:
    assert patient.campaign is not None and patient.project is not None
    project, guesses = patient.project, patient.campaign.campaign.guesses
    again = "`mcdal label-studio connect` sets it"
    if project.get("sampling") != SAMPLING:
        yield Check("sampling", "wrong", f"{project.get('sampling')!r}: tasks do not come in mcdal's order", again)
    if project.get("show_collab_predictions") and not guesses:
        said = "Label Studio shows predictions already ticked, and people follow them; the campaign has no --guesses"
        yield Check("guesses", "wrong", said, again)
    if int(project.get("maximum_annotations") or 1) > 1:
        said = f"{project['maximum_annotations']} annotations a task: begun tasks come first, in no order"
        todo = "set annotations per task to 1: mcdal asks a second person where one is wanted"
        yield Check("overlap", "wrong", said, todo)
    if project.get("skip_queue") != SKIPPED:
        said = f"skipped tasks: {project.get('skip_queue')}; with few people a round may never be full"
        yield Check("skipping", "look", said, again)
    if project.get("show_overlap_first"):
        yield Check(
            "overlap first", "look", "tasks for two people come before all others", "switch it off in the settings"
        )
    if project.get("evaluate_predictions_automatically"):
        said = "each task that is opened asks the backend again"
        yield Check("automatic predictions", "look", said, "switch it off in the settings: push sends them all at once")
    version = model_version(patient.campaign)
    if project.get("model_version") != version:
        said = f"the project follows the scores of {project.get('model_version')!r}, and this round's are {version!r}"
        yield Check("model version", "wrong", said, "push sets it")
    else:
        yield Check("settings", "ok", f"least score of {version} first")


def _tasks(patient: Patient) -> Iterator[Check]:
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


def _order(patient: Patient) -> Iterator[Check]:
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


def _others_predictions(patient: Patient) -> Iterator[Check]:
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


def _image(patient: Patient) -> Iterator[Check]:
    """The first task's, as the page would get it."""
    assert patient.connection is not None
    first = next((task["data"]["image"] for task in patient.tasks if mcdal_id(task) is not None), None)
    if first is None:
        return
    media, size = patient.client.fetch(first)
    if media.startswith("image/"):
        yield Check("image", "ok", f"{first}: {media}, {size} bytes")
    else:
        todo = "connect again with --image-url or --local-root that fit, and delete the tasks"
        yield Check("image", "wrong", f"{first} is {media or 'of no type'}, no image", todo)


def _backends(patient: Patient) -> Iterator[Check]:
    assert patient.connection is not None
    there = patient.client.backends(patient.connection.project)
    if patient.backend is not None:
        yield from _try(patient, patient.backend.rstrip("/"))
        return
    if not there:
        yield Check("backend", "look", "none is registered: annotations are pulled now and then, not at once", _how())
    for backend in there:
        url = str(backend["url"]).rstrip("/")
        if backend.get("state") in ("DI", "ER"):
            said = f"{url}: {backend.get('readable_state')}: {backend.get('error_message') or 'it does not answer'}"
            yield Check(
                "backend", "wrong", said, f"start `mcdal label-studio serve`. {FOR_PRIVATE if is_private(url) else ''}"
            )
        elif webhook_at(patient.client, patient.connection, url) is None:
            said = f"{url} has no webhook: Label Studio does not make one for private addresses, and says nothing"
            yield Check("backend", "look", said, f"serve again with --url {url}, which makes it. {FOR_PRIVATE}")
        else:
            yield Check("backend", "ok", f"{url}: {backend.get('readable_state')}, with its webhook")


def _try(patient: Patient, url: str) -> Iterator[Check]:
    """Whether Label Studio reaches and takes a backend of this address: by registering it, and taking it away again."""
    assert patient.connection is not None
    if backend_at(patient.client, patient.connection, url) is not None:
        yield Check("backend", "ok", f"{url} is registered")
        return
    given = {"url": url, "project": patient.connection.project, "title": f"{TITLE} doctor"}
    said = ""
    try:
        patient.client.make_backend(given)
    except CampaignError as error:
        said = str(error)
    made, hook = (
        backend_at(patient.client, patient.connection, url),
        webhook_at(patient.client, patient.connection, url),
    )
    if made is not None:
        patient.client.delete_backend(int(made["id"]))
    if hook is not None:
        patient.client.delete_webhook(int(hook["id"]))
    reach = FOR_PRIVATE if is_private(url) else "see that the server reaches this address"
    if made is None:
        yield Check("backend", "wrong", said, reach)
    elif hook is None:
        yield Check("backend", "look", f"{url} is taken, but without a webhook. {said}".strip(), reach)
    else:
        yield Check("backend", "ok", f"{url} is taken, with a webhook", _how())


def _how() -> str:
    return "`mcdal label-studio serve FOLDER --url http://ADDRESS:9090` registers it"
