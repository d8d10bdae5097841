"""Telling Label Studio of the backend, and seeing that its webhook is there: it refuses private addresses, partly in silence."""

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mcdal.errors import CampaignError
from mcdal.label_studio.client import Client
from mcdal.label_studio.connection import Connection
from mcdal.label_studio.http import Json

if TYPE_CHECKING:
    from mcdal.label_studio.backend import Login

TITLE = "mcdal"
FOR_PRIVATE = (
    "Label Studio refuses backends at private addresses unless it is started with ML_BLOCK_LOCAL_IP=false, and does not send "
    "webhooks there unless SSRF_PROTECTION_ENABLED=false"
)


def register(client: Client, connection: Connection, url: str, login: "Login | None" = None) -> str:
    """Adds the backend and its webhook where they are missing, and passes a changed password on; says what it did.

    Twice is as once. CampaignError says what to do where Label Studio refuses.
    """
    url = url.rstrip("/")
    there = backend_at(client, connection, url)
    given: Json = {"url": url, "project": connection.project, "title": TITLE}
    if login is not None:
        given |= {"auth_method": "BASIC_AUTH", "basic_auth_user": login.user, "basic_auth_pass": login.password}
    if there is None:
        try:
            client.make_backend(given)
        except CampaignError as error:
            # Where webhooks to private addresses are refused the server makes the backend, and answers with an error.
            if backend_at(client, connection, url) is None:
                raise CampaignError(f"{url} is not registered: {error}{_advice(url)}") from error
    elif login is not None and not _is_known(client, connection, url, login):
        client.change_backend(int(there["id"]), given)
    added = see_to_webhook(client, connection, url, login)
    return f"{url} {'is' if there is None else 'was'} registered as backend{' with its webhook' if added else ''}"


def _is_known(client: Client, connection: Connection, url: str, login: "Login") -> bool:
    """By the webhook, which is changed after the backend: Label Studio does not tell a backend's password."""
    wanted = {"Authorization": login.header}
    return any(hook.get("headers") == wanted for hook in webhooks_at(client, connection, url))


def backend_at(client: Client, connection: Connection, url: str) -> Json | None:
    """The backend of this address that the project has."""
    return next((b for b in client.backends(connection.project) if str(b["url"]).rstrip("/") == url), None)


def webhooks_at(client: Client, connection: Connection, url: str) -> list[Json]:
    """The webhooks of a backend; Label Studio makes one with the backend, or does not and says nothing."""
    hooks = client.webhooks(connection.project)
    return [hook for hook in hooks if str(hook["url"]).rstrip("/") == f"{url}/webhook"]


def see_to_webhook(client: Client, connection: Connection, url: str, login: "Login | None") -> bool:
    """Whether it had to be made."""
    hooks = webhooks_at(client, connection, url)
    headers = {} if login is None else {"Authorization": login.header}
    for hook in hooks:
        if headers and hook.get("headers") != headers:
            client.change_webhook(int(hook["id"]), {"headers": headers})
    if hooks:
        return False
    given = {
        "url": f"{url}/webhook", "project": connection.project, "send_payload": True, "send_for_all_actions": True,
        "headers": headers,
    }  # fmt: skip
    try:
        client.make_webhook(given)
    except CampaignError as error:
        raise CampaignError(
            f"{url} is registered as backend without a webhook; annotations are pulled now and then. {error}{_advice(url)}"
        ) from error
    return True


def is_private(url: str) -> bool:
    """Whether an address is of this machine or a private network; names other than localhost are taken for public."""
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith(".local")


def _advice(url: str) -> str:
    return f". {FOR_PRIVATE}" if is_private(url) else ""
