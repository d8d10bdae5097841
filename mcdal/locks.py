"""Whether a process works on a run: asked of its lock, without anything heavy to import."""

import os
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from mcdal.errors import StoreError


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock. It may be asked at any time: the file is neither created nor written."""
    try:
        if sys.platform == "win32":
            if not path.exists():
                return False
            with FileLock(path, timeout=0):
                return False
        import fcntl

        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Shared, so that two who ask at once do not take each other for the holder; closing gives it back.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (Timeout, BlockingIOError):
        return True
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}; change its permissions") from error
    return False
