"""Where shards lie: a folder on this machine, or a bucket or server that fsspec can read."""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mcdal.errors import McdalError, PoolError
from mcdal.pool.encoded import in_threads
from mcdal.writing import write_atomically

Result = TypeVar("Result")

EXTRAS = {
    "s3": ("s3", "s3fs"), "s3a": ("s3", "s3fs"), "gs": ("gcs", "gcsfs"), "gcs": ("gcs", "gcsfs"),
    "http": ("http", "aiohttp"), "https": ("http", "aiohttp"),
}  # fmt: skip
"""The extra of this package that brings what fsspec needs for a protocol, and that package."""
STAMPS = ("ETag", "etag", "generation", "md5Hash", "Last-Modified", "LastModified", "last_modified", "mtime", "created")
"""What stores tell of a file that changes when its content does, the best first."""
BLOCK = 8 << 20
"""Bytes that are read ahead of a file that is read from its beginning to its end."""
TRIES = 4
ASKED_AT_ONCE = 8
LOOKED_AT = 5_000


@dataclass(frozen=True)
class StoredFile:
    """A file below the root, by its path there. stamp: size with a time or an entity tag."""

    name: str
    size: int
    stamp: str


@dataclass(frozen=True)
class Storage:
    """A folder by its absolute path, or a URL. names: the files, where somebody has listed them instead of the store."""

    root: str
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: str | Path | Sequence[str | Path]) -> "Storage":
        """One folder, file or URL, or a list of files or URLs with one beginning. PoolError for a URL with credentials."""
        if not isinstance(data, str | Path):
            roots = [_root(item) for item in data]
            if not roots:
                raise PoolError("source.data is an empty list: give the shards, or the folder or URL where they lie")
            common = roots[0].rpartition("/")[0]
            while not all(root.startswith(f"{common}/") for root in roots):
                if not common or common.endswith(":/"):
                    raise PoolError(f"{roots[0]} and {roots[-1]} do not lie in one place: give shards of one store")
                common = common.rpartition("/")[0]
            return cls(common, tuple(sorted(root.removeprefix(f"{common}/") for root in roots)))
        root = _root(data)
        alone = root.endswith((".parquet", ".tar")) and not ("://" not in root and Path(root).is_dir())
        if alone:
            parent, _, name = root.rpartition("/")
            return cls(parent, (name,))
        return cls(root)

    @property
    def local(self) -> Path | None:
        """The folder, where it is one of this machine."""
        return Path(self.root) if "://" not in self.root else None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.root.rstrip("/").rpartition("/")[2] or "pool"

    def url(self, name: str = "") -> str:
        return f"{self.root}/{name}" if name else self.root

    def files(self, suffix: str) -> list[StoredFile]:
        """All files below the root whose names end so, in the order of their names."""
        with self.reading():
            if self.names:
                chosen = [name for name in self.names if name.endswith(suffix)]
                with ThreadPoolExecutor(ASKED_AT_ONCE) as threads:
                    return list(threads.map(self.file, chosen))
            found = self._found_here(suffix) if self.local is not None else self._found_there(suffix)
            return sorted(found, key=lambda file: file.name)

    def endings(self) -> set[str]:
        """Those of the names of the first few thousand files."""
        names = iter(self.names)
        if not self.names:
            walk = (
                os.walk(self.root, followlinks=True)
                if self.local is not None
                else self.system().walk(self.root, maxdepth=3)
            )
            names = (name for _, _, inside in walk for name in inside)
        with self.reading():
            return {name[name.rfind(".") :].lower() for name in islice(names, LOOKED_AT) if "." in name}

    def file(self, name: str) -> StoredFile:
        """What the store tells of one file."""
        with self.reading(name):
            if self.local is not None:
                stat = (self.local / name).stat()
                return StoredFile(name, stat.st_size, f"{stat.st_size}:{stat.st_mtime_ns}")
            return told(name, again(lambda: self.system().info(self.url(name))))

    def _found_here(self, suffix: str) -> Iterator[StoredFile]:
        assert self.local is not None
        if not self.local.is_dir():
            raise PoolError(f"the folder {self.root} does not exist: set source.data to where the shards lie")
        for folder, _, names in os.walk(self.local, followlinks=True):
            for name in names:
                if name.endswith(suffix) and not name.startswith("."):
                    yield self.file((Path(folder) / name).relative_to(self.local).as_posix())

    def _found_there(self, suffix: str) -> list[StoredFile]:
        system = self.system()
        system.invalidate_cache()
        start = self.path_of("")
        found = system.find(start, detail=True)
        entries = {path[len(start) :].strip("/"): info for path, info in found.items() if path.endswith(suffix)}
        if all(info.get("size") is not None for info in entries.values()):
            return [told(name, info) for name, info in entries.items()]
        with ThreadPoolExecutor(ASKED_AT_ONCE) as threads:  # a web server's page of links tells no sizes
            return list(threads.map(self.file, entries))

    def open(self, name: str, ahead: bool) -> Any:
        """A binary file that can be sought in. ahead: it will be read from front to back."""
        with self.reading(name):
            if self.local is not None:
                return (self.local / name).open("rb")
            options = {"block_size": BLOCK, "cache_type": "readahead"} if ahead else {"cache_type": "none"}
            return self.system().open(self.url(name), "rb", **options)

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """A file's bytes, or a part of them; tried again where a store stumbles."""
        with self.reading(name):
            if self.local is not None:
                with (self.local / name).open("rb") as file:
                    file.seek(start)
                    return file.read() if length is None else file.read(length)
            end = None if length is None else start + length
            url = self.url(name)
            if length is None:
                return bytes(again(lambda: self.system().cat_file(url)))
            return bytes(again(lambda: self.system().cat_file(url, start=start, end=end)))

    def read_each(self, parts: Iterable[tuple[str, int, int | None]]) -> Iterator[bytes]:
        """Names with a start and a length, in their order; from a store several at once."""
        threads = 1 if self.local is not None else ASKED_AT_ONCE
        return in_threads(lambda part: self.read(*part), parts, threads)

    def exists(self, name: str) -> bool:
        with self.reading(name):
            return (
                (self.local / name).exists() if self.local is not None else bool(self.system().exists(self.url(name)))
            )

    def write(self, name: str, content: bytes) -> None:
        """A whole file, which others see whole or not at all."""
        if self.local is not None:
            write_atomically(self.local / name, content)
            return
        with self.reading(name):
            again(partial(self.system().pipe_file, self.url(name), content))

    @contextmanager
    def reading(self, name: str = "") -> Iterator[None]:
        """What goes wrong inside is a PoolError that names the URL; nothing of a query or of credentials is said."""
        try:
            yield
        except McdalError:
            raise
        except FileNotFoundError:
            raise PoolError(f"{self.url(name)} does not exist: set source.data to where the shards lie") from None
        except PermissionError as error:
            advice = "change its permissions" if self.local is not None else "see docs/shards.md for credentials"
            raise PoolError(f"{self.url(name)} may not be read ({_plain(error)}): {advice}") from None
        except OSError as error:
            raise PoolError(f"{self.url(name)} cannot be read: {_plain(error)}") from error
        except Exception as error:
            # Clients of stores raise types of their own.
            if self.local is not None:
                raise
            raise PoolError(f"{self.url(name)} cannot be read: {type(error).__name__}: {_plain(error)}") from error

    def system(self) -> Any:
        """fsspec's file system. PoolError names the extra that a protocol needs."""
        import fsspec

        protocol = self.root.partition("://")[0]
        try:
            return fsspec.filesystem(protocol)
        except ImportError as error:
            extra, package = EXTRAS.get(protocol, ("", "a package that is not installed"))
            install = f"pip install 'mcdal[{extra}]'" if extra else str(error)
            raise PoolError(f"{self.root} needs {package}: {install}") from error
        except ValueError:
            raise PoolError(f"{self.root}: {protocol}:// is no protocol that fsspec knows") from None

    def path_of(self, name: str) -> str:
        """As the file system itself writes it."""
        return str(self.system()._strip_protocol(self.url(name))).rstrip("/")


def again(work: Callable[[], Result]) -> Result:
    """`work`, tried a few times with pauses: a store that is asked for a week stumbles now and then."""
    for number in range(TRIES):
        try:
            return work()
        except (FileNotFoundError, PermissionError):
            raise
        except Exception:
            if number == TRIES - 1:
                raise
            time.sleep(0.2 * 4**number)
    raise AssertionError


def _root(data: str | Path) -> str:
    text = str(data)
    if "://" not in text:
        return Path(text).expanduser().resolve().as_posix()
    parts = urlsplit(text)
    if parts.username or parts.password or parts.query:
        raise PoolError(
            f"{parts.scheme}://{parts.hostname}{parts.path}: a URL with a user, a password or a query would be recorded with the "
            "run: give it without them, and credentials in the environment (see docs/shards.md)"
        )
    return parts.path if parts.scheme == "file" else text.rstrip("/")


def told(name: str, info: dict[str, Any]) -> StoredFile:
    """What a file system says of a file."""
    size = info.get("size")
    if size is None:
        raise PoolError(f"{name}: the server does not tell its size: it must answer HEAD and range requests")
    mark = next((str(info[key]).strip('"') for key in STAMPS if info.get(key)), "")
    return StoredFile(name, int(size), f"{size}:{mark}")


def _plain(error: Exception) -> str:
    """What it says, without the queries of signed URLs."""
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return re.sub(r"\?\S*", "", text)
