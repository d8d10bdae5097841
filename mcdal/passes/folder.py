"""Where the results of a pass lie: a folder of this machine or of a shared disk, or anything that fsspec has an address for."""

import contextlib
import shutil
import tempfile
import uuid
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from filelock import FileLock, Timeout

from mcdal.errors import StoreError
from mcdal.writing import write_atomically

WHOLE_OR_NOT_AT_ALL = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "memory"})
"""Object stores: half a file is never seen there."""


class Folder(ABC):
    """Files by name, each written whole or not at all. It travels to workers (pickled)."""

    everywhere: bool
    """Whether every machine sees the same files under this address."""
    only_here = False
    """Whether no other process sees them at all."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None: ...

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """None where there is no such file."""

    @abstractmethod
    def names(self) -> set[str]:
        """Of all files."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Nothing happens where there is no such file."""

    @abstractmethod
    def local(self, name: str) -> Path:
        """A file of this machine with that content, which may be mapped into memory."""

    @abstractmethod
    def scratch(self) -> Path:
        """A folder of this machine for large files that are made of these."""

    @abstractmethod
    def alone(self) -> "contextlib.AbstractContextManager[None]":
        """Inside, no other pass of this machine works on the folder. What killed processes left half written is removed, before
        and after."""

    @abstractmethod
    def __str__(self) -> str: ...


def folder_of(where: Path | str) -> Folder:
    """By its path, or by an address such as s3://bucket/pass."""
    if not isinstance(where, str) or "://" not in where:
        return LocalFolder(Path(where))
    if where.startswith(("file://", "local://")):
        return LocalFolder(Path(fsspec.core.url_to_fs(where)[1]))
    return RemoteFolder(where)


class LocalFolder(Folder):
    """A folder of the file system, on this machine's disk or on one that several share."""

    everywhere = False

    def __init__(self, path: Path):
        self.path = path.absolute()

    def write(self, name: str, content: bytes) -> None:
        write_atomically(self.path / name, content)

    def read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read {self.path / name}: {error.strerror or error}") from error

    def names(self) -> set[str]:
        return {path.name for path in self.path.iterdir()} if self.path.is_dir() else set()

    def remove(self, name: str) -> None:
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot remove {self.path / name}: {error.strerror or error}") from error

    def local(self, name: str) -> Path:
        return self.path / name

    def scratch(self) -> Path:
        return self.path

    @contextmanager
    def alone(self) -> Iterator[None]:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / "lock", timeout=1)
            lock.acquire()
        except Timeout:
            raise StoreError(f"another process measures into {self.path}: wait for it, or end it first") from None
        except OSError as error:
            raise StoreError(f"cannot write to {self.path}: {error.strerror or error}") from error
        try:
            self._remove_halves()
            yield
        finally:
            with contextlib.suppress(StoreError):  # the next pass tries again
                self._remove_halves()
            lock.release()

    def _remove_halves(self) -> None:
        for part in self.path.glob("*.part"):
            self.remove(part.name)

    def __str__(self) -> str:
        return str(self.path)


class RemoteFolder(Folder):
    """Object stores take a file whole or not at all; elsewhere it is written under another name and moved."""

    def __init__(self, address: str):
        self.address = address.rstrip("/")
        self._kind = address.partition("://")[0].rpartition("::")[2]
        self.only_here = self._kind == "memory"
        self.everywhere = not self.only_here
        self._copies: Path | None = None

    def write(self, name: str, content: bytes) -> None:
        files, path = self._files()
        try:
            if self._kind in WHOLE_OR_NOT_AT_ALL:  # where moving is copying once more
                files.pipe_file(f"{path}/{name}", content)
                return
            beside = f"{path}/{name}.{uuid.uuid4().hex[:8]}.part"
            files.makedirs(path, exist_ok=True)
            files.pipe_file(beside, content)
            files.mv(beside, f"{path}/{name}")
        except OSError as error:
            raise StoreError(f"cannot write {self.address}/{name}: {error}") from error

    def read(self, name: str) -> bytes | None:
        files, path = self._files()
        try:
            content: bytes = files.cat_file(f"{path}/{name}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read {self.address}/{name}: {error}") from error
        return content

    def names(self) -> set[str]:
        files, path = self._files()
        files.invalidate_cache(path)
        try:
            return {str(found).rpartition("/")[2] for found in files.ls(path, detail=False)}
        except FileNotFoundError:
            return set()

    def remove(self, name: str) -> None:
        files, path = self._files()
        with contextlib.suppress(FileNotFoundError):
            files.rm_file(f"{path}/{name}")

    def local(self, name: str) -> Path:
        copy = self.scratch() / name
        if not copy.exists():
            content = self.read(name)
            if content is None:
                raise StoreError(f"{self.address}/{name} is not there any more: measure again")
            write_atomically(copy, content)
        return copy

    def scratch(self) -> Path:
        """Goes when nobody holds this any more."""
        if self._copies is None:
            self._copies = Path(tempfile.mkdtemp(prefix="mcdal-pass-"))
            weakref.finalize(self, shutil.rmtree, self._copies, True)
        return self._copies

    def alone(self) -> "contextlib.AbstractContextManager[None]":
        """There are no locks in an object store: who measures twice into one pays twice, for the same files."""
        return contextlib.nullcontext()

    def _files(self) -> tuple[Any, str]:
        try:
            found: tuple[Any, str] = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise StoreError(f"cannot reach {self.address}: {error}") from error
        return found

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_copies": None}

    def __str__(self) -> str:
        return self.address
