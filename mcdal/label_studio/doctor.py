"""Looks for what goes wrong between a campaign and its Label Studio, each with what was seen and what to do."""

import time
from collections.abc import Callable, Iterator

from mcdal.campaign.definition import Opened
from mcdal.errors import CampaignError
from mcdal.label_studio import doctor_backend, doctor_tasks
from mcdal.label_studio.checks import Check, Patient
from mcdal.label_studio.client import Client
from mcdal.label_studio.connect import SAMPLING, SKIPPED
from mcdal.label_studio.connection import Connection, the_project
from mcdal.label_studio.questions import model_version
from mcdal.label_studio.shapes import classifier

SLOW_SECONDS = 2.0


def diagnose(
    client: Client, campaign: Opened | None = None, connection: Connection | None = None, backend: str | None = None
) -> Iterator[Check]:
    """All checks, each as soon as it is made. Without a campaign the server and the token alone are looked at.

    backend: an address that Label Studio should reach; it is tried and taken away again.
    """
    patient = Patient(client, campaign, connection, backend)
    checks: list[Callable[[Patient], Iterator[Check]]] = [_server, _token]
    if campaign is not None and connection is not None:
        checks += [_project, _interface, _settings]
        checks += [doctor_tasks.tasks, doctor_tasks.order, doctor_tasks.predictions, doctor_tasks.image]
    if connection is not None:
        checks += [doctor_backend.backends]
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
    project = the_project(patient.client, patient.connection)
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
