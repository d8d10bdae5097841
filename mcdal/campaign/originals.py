"""The images of a campaign as they lie, by id, audit and all: what people are shown, and what is handed on with labels."""

from collections.abc import Collection, Sequence
from pathlib import Path

from mcdal.campaign.definition import Opened
from mcdal.campaign.draws import is_audit
from mcdal.campaign.images import list_images
from mcdal.campaign.originals_base import File, Originals
from mcdal.campaign.originals_in_shards import Current, FileOriginals, ShardOriginals
from mcdal.campaign.shards import shards_of
from mcdal.errors import PoolError


class FolderOriginals(Originals):
    """Image files of a folder. store: of the campaign, which is not looked into."""

    def __init__(self, root: Path, store: Path, seed: int, below: float):
        self._root, self._store, self._seed, self._below = root.resolve(), store, seed, below

    def count(self) -> int:
        return len(self._ids())

    def known(self, ids: Collection[str]) -> set[str]:
        return set(self._ids()).intersection(ids)

    def audit(self) -> set[str]:
        return self.in_audit(self._ids())

    def in_audit(self, ids: Sequence[str]) -> set[str]:
        return {id for id in ids if is_audit(self._seed, id, self._below)}

    def _path(self, id: str) -> Path:
        try:
            path = (self._root / id).resolve()
            inside = path.is_relative_to(self._root) and path.is_file()
        except (OSError, ValueError):  # the second: a null byte
            inside = False
        if not inside:
            raise PoolError(f"the image {id!r} is not in the folder any more")
        return path

    def is_there(self, id: str) -> bool:
        try:
            self._path(id)
        except PoolError:
            return False
        return True

    def version(self, id: str) -> str:
        state = self._path(id).stat()
        return f"{state.st_size:x}-{state.st_mtime_ns:x}"

    def open(self, id: str) -> File:
        return self._path(id).open("rb")

    def where(self) -> str:
        return str(self._root)

    def _ids(self) -> list[str]:
        return [file.id for file in list_images(self._root, self._store)]


def originals_of(campaign: Opened, lists: bool = True) -> Originals:
    """Those of a campaign. A new object looks at everything anew.

    lists: False of whoever answers requests: where images in shards are not listed, that is a PoolError until somebody has.
    """
    definition = campaign.campaign
    if definition.kind is None:
        return FolderOriginals(Path(definition.images), campaign.folder, definition.seed, definition.audit_below)
    current = Current(shards_of(definition, campaign.folder), campaign.folder / "cache", lists)
    return FileOriginals(current) if definition.kind == "files" else ShardOriginals(current)
