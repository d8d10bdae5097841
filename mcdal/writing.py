"""Files that are written whole or not at all."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcdal.errors import StoreError


def write_atomically(path: Path, content: bytes) -> None:
    """The file has its old content or the new one, whatever happens."""
    with replaced(path) as beside, beside.open("wb") as file:
        file.write(content)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A file to write beside `path`. Left without an error, it is synced and takes that name; else nothing stays of it."""
    beside = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with beside.open("r+b") as file:
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}; nothing recorded is lost: make room or change permissions, "
            "then run the same command again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """A power cut may undo a renaming that only the memory knows of, and the store would then speak of a missing file."""
    if sys.platform == "win32":  # where folders cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
