"""Which project of which server a campaign is connected to: a small file in its folder that only its owner can read."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from mcdal.errors import CampaignError
from mcdal.writing import replaced

if TYPE_CHECKING:
    from mcdal.label_studio.client import Client

FILE_NAME = "label_studio.json"
TOKEN = "LABEL_STUDIO_API_KEY"
WAIT_SECONDS = 600.0

How = Literal["upload", "url", "local"]


@dataclass(frozen=True)
class Connection:
    """url, project: of the server. stamp: tells this project from others of its number. token: as it was given, or None.

    images: how Label Studio gets them. upload: they are sent to it; url: `where` is an address with {id}; local: `where` is its
    LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT.
    """

    url: str
    project: int
    stamp: str
    images: How = "upload"
    where: str = ""
    token: str | None = None

    @property
    def page(self) -> str:
        """Where people find the project."""
        return f"{self.url}/projects/{self.project}"

    def client(self) -> "Client":
        """A client with the token of the environment, or else the one that is kept."""
        from mcdal.label_studio.client import Client

        return Client(self.url, token_of(self.token))


def token_of(given: str | None) -> str:
    """The token to use. CampaignError where there is none."""
    token = os.environ.get(TOKEN) or given
    if not token:
        raise CampaignError(
            f"no token for Label Studio: set {TOKEN}, or give --token (in Label Studio: Account & Settings, Access Token)"
        )
    token = token.strip()
    if not all("!" <= character <= "~" for character in token):  # an error of the network would show it
        raise CampaignError(
            f"the token of {TOKEN} or --token has spaces, line breaks or letters that no token has: copy it anew"
        )
    return token


def stamp_of(project: dict[str, Any]) -> str:
    """As Label Studio itself tells projects apart to its backends: the number, and when it was made."""
    made = datetime.fromisoformat(str(project["created_at"]).replace("Z", "+00:00"))
    return f"{project['id']}.{int(made.timestamp())}"


def the_project(client: "Client", connection: Connection) -> dict[str, Any]:
    """The project as it stands. CampaignError where another one has its number now."""
    project = client.project(connection.project)
    if stamp_of(project) != connection.stamp:
        raise CampaignError(
            f"project {connection.project} of {connection.url} is another one than was connected: connect again with --project"
        )
    return project


def read_connection(folder: Path) -> Connection:
    """CampaignError where the campaign is not connected, or the file is not as it was written."""
    path = folder / FILE_NAME
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        found = Connection(**given)
        if not all(isinstance(text, str) for text in (found.url, found.stamp, found.where)):
            raise TypeError("url, stamp and where are texts")
        return found
    except FileNotFoundError:
        raise CampaignError(
            f"{folder} is not connected to Label Studio: `mcdal label-studio connect {folder} --url http://...` does it"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise CampaignError(f"{path} cannot be read ({error}): connect again") from error


def write_connection(folder: Path, connection: Connection) -> None:
    """Readable by its owner alone: it may hold a token."""
    with replaced(folder / FILE_NAME) as beside:
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        beside.write_text(json.dumps(asdict(connection), indent=1) + "\n", encoding="utf-8")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One at a time: two who push at once would each make the tasks that the other is about to make."""
    lock = FileLock(folder / "label_studio.lock", timeout=WAIT_SECONDS)
    try:
        with lock:
            yield
    except Timeout:
        raise CampaignError(
            f"another process has talked to Label Studio for {folder} for {WAIT_SECONDS:.0f} s: end it"
        ) from None
