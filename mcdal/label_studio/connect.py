"""A project of Label Studio for a campaign: made as it should be, or an existing one that fits."""

from pathlib import Path
from typing import Any

from mcdal.campaign.definition import Opened
from mcdal.errors import CampaignError
from mcdal.label_studio.client import Client
from mcdal.label_studio.connection import FILE_NAME, Connection, How, alone, read_connection, stamp_of, write_connection
from mcdal.label_studio.http import AbsentError
from mcdal.label_studio.images import by_address, folder_of, local
from mcdal.label_studio.shapes import CANNOT_TELL, choices_interface, classifier, with_choices

SAMPLING = "Uncertainty sampling"
"""The community edition honours it: the task with the least score of the project's model version comes next."""
SKIPPED = "REQUEUE_FOR_ME"
"""What somebody skips comes back to them last; otherwise nobody may be left whom it could be given to."""
DOCS = (
    "Images are put in the order that helps the model most; mcdal decides which. Skip what you cannot see now; choose "
)
DOCS += "“(cannot tell)” where the image shows no class clearly."


def settings(campaign: Opened) -> dict[str, Any]:
    """What a project must be set to. Label Studio would show a model's prediction ticked: that is done only where wanted."""
    return {"sampling": SAMPLING, "show_collab_predictions": campaign.campaign.guesses, "skip_queue": SKIPPED}


def connect(
    campaign: Opened, client: Client, project: int | None, images: How | None, where: str, token: str | None
) -> tuple[Connection, str]:
    """Makes a project, or takes the one of this number; a second time it finds what it made. Also gives what it did, in words.

    images, where: as before where None, and at first they are sent. token: kept in the file, where it is not None.
    CampaignError where the project does not fit, or the campaign is connected to another server.
    """
    with alone(campaign.folder):
        before = _before(campaign, client, project)
        if images is None:
            images, where = ("upload", "") if before is None else (before.images, before.where)
        _check(campaign, images, where)
        if token is None and before is not None and before.url == client.url:
            token = before.token
        if project is None and before is not None:
            found, did = _known(client, before), "was connected already"
        elif project is None:
            found, did = client.make_project(_new(campaign)), "was made"
        else:
            found, did = client.project(project), "was taken"
            classifier(found["label_config"], campaign.ledger.classes())
        made = Connection(client.url, int(found["id"]), stamp_of(found), images, where, token)
        write_connection(campaign.folder, made)  # now: what fails below is done the next time, in the same project
        did += _fit(campaign, client, found)
        if images == "local":
            _share(campaign, client, made.project)
    return made, did


def fit_classes(campaign: Opened, client: Client, project: dict[str, Any]) -> list[str]:
    """Adds the classes that the interface lacks, as after `mcdal campaign classes --add`; gives them."""
    control, missing = classifier(project["label_config"], campaign.ledger.classes())
    if missing:
        changed = with_choices(project["label_config"], control.name, missing)
        client.change_project(int(project["id"]), {"label_config": changed})
        project["label_config"] = changed
    return missing


def _new(campaign: Opened) -> dict[str, Any]:
    name = f"mcdal {campaign.campaign.name}"[:50]
    interface = choices_interface(campaign.ledger.classes())
    return {
        "title": name, "label_config": interface, "maximum_annotations": 1, "expert_instruction": DOCS, **settings(campaign),
    }  # fmt: skip


def _check(campaign: Opened, images: How, where: str) -> None:
    """Before anything is made."""
    if CANNOT_TELL in campaign.ledger.classes():
        raise CampaignError(
            f"the campaign has a class {CANNOT_TELL!r}, which Label Studio shows for what is none: begin it with another name"
        )
    if images == "url":
        by_address(where, "x")
    elif images == "local":
        local(Path(where), folder_of(campaign))


def _before(campaign: Opened, client: Client, project: int | None) -> Connection | None:
    """What was connected before. CampaignError where that is on another server, and no project of this one was named.

    Two names of one server cannot be told from two servers: a second project would be made, and people work in the first.
    """
    if not (campaign.folder / FILE_NAME).exists():
        return None
    found = read_connection(campaign.folder)
    if project is None and found.url != client.url:
        raise CampaignError(
            f"this campaign is connected to {found.page}: give --url {found.url}, or the --project of {client.url} to take"
        )
    return found


def _known(client: Client, before: Connection) -> dict[str, Any]:
    try:
        found = client.project(before.project)
    except AbsentError:
        raise CampaignError(
            f"project {before.project} has gone from {before.url}; answers that were pulled are kept. Delete {FILE_NAME} in the "
            "folder of the campaign to begin with a new project, or give --project"
        ) from None
    if stamp_of(found) != before.stamp:
        raise CampaignError(
            f"project {before.project} of {before.url} is another one than before: give --project {before.project} to take it"
        )
    return found


def _fit(campaign: Opened, client: Client, project: dict[str, Any]) -> str:
    """Sets what must be set; gives what was changed, in words."""
    added = fit_classes(campaign, client, project)
    different = {name: value for name, value in settings(campaign).items() if project.get(name) != value}
    if different:
        client.change_project(int(project["id"]), different)
        project |= different
    said = [f"choices added: {', '.join(added)}"] if added else []
    said += [f"{name} set to {value}" for name, value in different.items()]
    return f" ({'; '.join(said)})" if said else ""


def _share(campaign: Opened, client: Client, project: int) -> None:
    """Label Studio shows files of its disk only from folders that the project has as a storage."""
    path = str(campaign.campaign.images)
    if any(str(storage.get("path", "")).rstrip("/") == path for storage in client.storages(project)):
        return
    try:
        client.make_storage(project, path)
    except CampaignError as error:
        raise CampaignError(
            f"Label Studio does not take {path} as a folder of its own: {error}. It must be started with "
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, and the images must "
            "lie in a folder below that root"
        ) from error
