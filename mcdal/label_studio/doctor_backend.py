"""The doctor's look at backends: whether they answer, have their webhook, and whether one could be registered."""

from collections.abc import Iterator

from mcdal.errors import CampaignError
from mcdal.label_studio.checks import Check, Patient
from mcdal.label_studio.register import FOR_PRIVATE, TITLE, backend_at, is_private, webhooks_at


def backends(patient: Patient) -> Iterator[Check]:
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
        elif not webhooks_at(patient.client, patient.connection, url):
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
    before = {hook["id"] for hook in webhooks_at(patient.client, patient.connection, url)}
    given = {"url": url, "project": patient.connection.project, "title": f"{TITLE} doctor"}
    said = ""
    try:
        patient.client.make_backend(given)
    except CampaignError as error:
        said = str(error)
    made = backend_at(patient.client, patient.connection, url)
    hooks = [hook for hook in webhooks_at(patient.client, patient.connection, url) if hook["id"] not in before]
    if made is not None:
        patient.client.delete_backend(int(made["id"]))
    for hook in hooks:
        patient.client.delete_webhook(int(hook["id"]))
    reach = FOR_PRIVATE if is_private(url) else "see that the server reaches this address"
    if made is None:
        yield Check("backend", "wrong", said, reach)
    elif not hooks:
        yield Check("backend", "look", f"{url} is taken, but without a webhook. {said}".strip(), reach)
    else:
        yield Check("backend", "ok", f"{url} is taken, with a webhook", _how())


def _how() -> str:
    return "`mcdal label-studio serve FOLDER --url http://ADDRESS:9090` registers it"
