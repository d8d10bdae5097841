"""How Label Studio gets the images: sent to it, from an address of yours, or from a folder on its own disk."""

import hashlib
import mimetypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from mcdal.campaign.definition import Opened
from mcdal.campaign.showing import Pictures
from mcdal.errors import CampaignError, PoolError
from mcdal.label_studio.client import AT_ONCE, Client
from mcdal.label_studio.connection import Connection

MOST_FILES, MOST_BYTES = 25, 32 << 20
"""Of one upload: Label Studio refuses more than a hundred files at once."""
LOCAL = "/data/local-files/?d="


def addresses(
    campaign: Opened, client: Client, connection: Connection, ids: Sequence[str], broken: dict[str, str]
) -> Iterator[dict[str, str]]:
    """What the field `image` of each task says, by id, part by part. broken: is told why an image cannot be shown."""
    if connection.images == "upload":
        for part in _parts(Pictures.of(campaign), ids, broken):
            sent = client.upload(connection.project, [(name, content, media) for _, name, content, media in part])
            yield {id: sent[name] for id, name, _, _ in part}
        return
    for first in range(0, len(ids), AT_ONCE):
        yield {id: address(campaign, connection, id) for id in ids[first : first + AT_ONCE]}


def address(campaign: Opened, connection: Connection, id: str) -> str:
    """Of an image that Label Studio gets elsewhere."""
    if connection.images == "url":
        return by_address(connection.where, id)
    return local(Path(connection.where), folder_of(campaign) / id)


def folder_of(campaign: Opened) -> Path:
    """The folder of the images. CampaignError where they are no files of one."""
    found = campaign.campaign.files
    if found is None:
        raise CampaignError(
            "--local-root: the images of this campaign lie in shards, which Label Studio does not read: leave it out, and they "
            "are sent, or give --image-url"
        )
    return found


def by_address(template: str, id: str) -> str:
    """CampaignError for an address without a place for the id."""
    if "{id}" not in template or not template.startswith(("http://", "https://")):
        raise CampaignError(
            f"--image-url {template}: give an address with {{id}} in it, such as https://img.example.org/{{id}}"
        )
    return template.replace("{id}", quote(id))


def local(root: Path, path: Path) -> str:
    """CampaignError for a file that does not lie below the root that Label Studio may read."""
    try:
        return LOCAL + quote(path.resolve().relative_to(root.resolve()).as_posix())
    except ValueError:
        raise CampaignError(
            f"--local-root {root}: {path} does not lie below it; give the folder that Label Studio has as "
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"
        ) from None


def _parts(
    pictures: Pictures, ids: Sequence[str], broken: dict[str, str]
) -> Iterator[list[tuple[str, str, bytes, str]]]:
    """(id, name, content, media type) of images as browsers show them, few enough for one request."""
    part: list[tuple[str, str, bytes, str]] = []
    size = 0
    for id in ids:
        try:
            shown = pictures.show(id, "image")
        except PoolError as error:
            broken[id] = str(error)
            continue
        name = hashlib.blake2b(id.encode(), digest_size=10).hexdigest() + (
            mimetypes.guess_extension(shown.media_type) or ""
        )
        if part and (len(part) == MOST_FILES or size + len(shown.content) > MOST_BYTES):
            yield part
            part, size = [], 0
        part.append((id, name, shown.content, shown.media_type))
        size += len(shown.content)
    if part:
        yield part
