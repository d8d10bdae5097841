"""Folders that are built once: safe against a second process and against being killed while they are written."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mcdal.errors import PoolError
from mcdal.events import Listener, nobody

INDEX = "index.json"


def entry(cache: Path, key: str, build: Callable[[Path], None], listen: Listener = nobody) -> Path:
    """The finished folder `cache/key`. `build(folder)` fills it if it is not there, `index.json` among its files.

    It is built beside its place and renamed when every byte is on the disk, so that a half-written one is never used.
    An entry that exists is used without writing anything, not even a lock: the cache may be read-only then.
    """
    place = cache / key
    if _intact(place):
        return place
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            listen("prepare", done=0, total=1, what="waiting for another process that prepares the same images")
            lock.acquire()
        try:
            if not _intact(place):
                _build(cache, key, build)
        finally:
            lock.release()
    except OSError as error:
        raise PoolError(
            f"cannot write the image cache in {cache}: {error.strerror or error}; free space or choose another folder"
        ) from error
    return place


def kept(cache: Path, key: str) -> bool:
    """Whether `entry` would find this one finished."""
    return _intact(cache / key)


def _build(cache: Path, key: str, build: Callable[[Path], None]) -> None:
    """Under the lock: whatever temporary folder of this key is there was left by a process that was killed."""
    for left_over in [cache / key, *cache.glob(f"{key}.tmp-*")]:
        shutil.rmtree(left_over, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{key}.tmp-", dir=cache))
    try:
        build(unfinished)
        for file in unfinished.rglob("*"):
            _flush(file)
        _flush(unfinished)
        unfinished.chmod(0o777 & ~_umask())  # mkdtemp gives it to one user only; caches are shared
        unfinished.replace(cache / key)
        _flush(cache)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_index(folder: Path, content: dict[str, Any]) -> None:
    """The facts about an entry, with the sizes of the files that are there so far."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
    (folder / INDEX).write_text(json.dumps({"files": sizes, **content}), encoding="utf-8")


def read_index(folder: Path) -> dict[str, Any]:
    """What `write_index` wrote."""
    content: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return content


def _intact(folder: Path) -> bool:
    """Whether every file has the size that was written; one that was cut off or removed is built again."""
    try:
        files = read_index(folder)["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _flush(path: Path) -> None:
    """Onto the disk: a rename may otherwise survive a power cut that the content does not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
