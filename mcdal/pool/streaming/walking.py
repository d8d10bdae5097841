"""Files below a folder of this machine."""

import os
import re
from collections.abc import Iterator

from mcdal.errors import PoolError


def files_below(folder: str, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """Paths of all files, links followed. PoolError for a folder that cannot be read, and for a link that leads in a circle."""
    try:
        stat = os.stat(folder)  # noqa: PTH116
        here = (stat.st_dev, stat.st_ino)
        if here in above:
            raise PoolError(f"{folder} leads back to a folder that it lies in: remove this link")
        with os.scandir(folder) as entries:
            found = [(entry.path, entry.is_dir()) for entry in entries]
    except OSError as error:
        if not above and isinstance(error, FileNotFoundError):
            raise PoolError(f"the folder {folder} does not exist: set source.data to where the images lie") from None
        raise PoolError(f"{folder} cannot be read ({plain(error)}): change its permissions, or move it away") from error
    for path, is_folder in sorted(found):
        if is_folder:
            yield from files_below(path, above | {here})
        else:
            yield path


def check_name(path: str) -> None:
    """PoolError for a name that is no text: an id must be one."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise PoolError(f"the name of {path!a} is not UTF-8: rename it") from None


def plain(error: Exception) -> str:
    """What it says, without the queries of signed URLs."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return re.sub(r"\?\S*", "", text)
