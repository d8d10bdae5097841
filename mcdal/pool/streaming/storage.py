"""Where shards lie: a folder on this machine, or a bucket or server that fsspec can read."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mcdal.errors import McdalError, MissingError, PoolError
from mcdal.pool.encoded import in_threads
from mcdal.pool.streaming.walking import check_name, files_below, plain
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
WHERE = "set source.data (of a campaign --images) to where the shards lie"
RELIST = "put it back as it was, or list it anew (a run with --set source.relist=true, a campaign with `mcdal campaign relist`)"
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
        alone = root.lower().endswith((".parquet", ".tar")) and not ("://" not in root and Path(root).is_dir())
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
            found = self._given(suffix) if self.names else self._found(suffix)
            return sorted({file.name: file for file in found}.values(), key=lambda file: file.name)

    def _given(self, suffix: str) -> Iterator[StoredFile]:
        """Files of a list, and all that lie in its folders. PoolError for what is neither."""
        single = [name for name in self.names if name.lower().endswith(suffix)]
        with ThreadPoolExecutor(ASKED_AT_ONCE) as threads:
            yield from threads.map(self.file, single)
        for name in self.names:
            if name.lower().endswith(suffix):
                continue
            if not self._is_folder(name):
                raise PoolError(
                    f"{self.url(name)} is neither a folder nor a {suffix} file: leave it out of source.data"
                )
            yield from (replace(file, name=f"{name}/{file.name}") for file in Storage(self.url(name)).files(suffix))

    def _is_folder(self, name: str) -> bool:
        if self.local is None:
            return bool(self.system().isdir(self.url(name)))
        if not (self.local / name).exists():
            raise MissingError(f"{self.url(name)} does not exist: {WHERE}")
        return (self.local / name).is_dir()

    def _found(self, suffix: str) -> Iterable[StoredFile]:
        return self._found_here(suffix) if self.local is not None else self._found_there(suffix)

    def endings(self) -> set[str]:
        """Those of the names of the first few thousand files."""
        with self.reading():
            return {name[name.rfind(".") :].lower() for name in islice(self._looked_at(), LOOKED_AT) if "." in name}

    def _looked_at(self) -> Iterator[str]:
        for name in self.names or ("",):
            if name and not self._is_folder(name):
                yield name
            elif self.local is not None:
                yield from (path.rpartition("/")[2] for path in files_below(self.url(name)))
            else:
                walk = self.system().walk(self.url(name), maxdepth=3)
                yield from (file for _, _, inside in walk for file in inside)

    def now(self, name: str) -> StoredFile:
        """What the store tells of one file, not what a listing told before."""
        if self.local is None:
            self.system().invalidate_cache()
        return self.file(name)

    def file(self, name: str) -> StoredFile:
        """What the store tells of one file."""
        with self.reading(name):
            if self.local is not None:
                stat = (self.local / name).stat()
                return StoredFile(name, stat.st_size, f"{stat.st_size}:{stat.st_mtime_ns}")
            return told(name, again(lambda: self.system().info(self.url(name))))

    def _found_here(self, suffix: str) -> Iterator[StoredFile]:
        assert self.local is not None
        for path in files_below(self.root):
            name = path.rpartition("/")[2]
            if name.lower().endswith(suffix) and not name.startswith("."):
                check_name(path)
                yield self.file(path[len(self.root) :].lstrip("/"))

    def _found_there(self, suffix: str) -> list[StoredFile]:
        system = self.system()
        system.invalidate_cache()
        start = self.path_of("")
        found = system.find(start, detail=True)
        entries = {path[len(start) :].strip("/"): info for path, info in found.items() if path.lower().endswith(suffix)}
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
        except FileNotFoundError as error:
            if self._silent(error):
                raise PoolError(f"{self.url(name)} cannot be read: {plain(_cause(error))}") from error
            raise MissingError(f"{self.url(name)} does not exist: {WHERE}") from None
        except PermissionError as error:
            advice = "change its permissions" if self.local is not None else "see docs/shards.md for credentials"
            raise PoolError(f"{self.url(name)} may not be read ({plain(error)}): {advice}") from None
        except OSError as error:
            raise PoolError(f"{self.url(name)} cannot be read: {plain(error)}") from error
        except Exception as error:
            # Clients of stores raise types of their own.
            if self.local is not None:
                raise
            raise PoolError(f"{self.url(name)} cannot be read: {type(error).__name__}: {plain(error)}") from error

    def _silent(self, error: FileNotFoundError) -> bool:
        """Whether a web server did not say that the file is not there: fsspec takes any failure for that, one to connect too."""
        cause = error.__cause__
        told = cause is None or isinstance(cause, FileNotFoundError) or getattr(cause, "status", 0) in (404, 410)
        return self.root.startswith("http") and not told

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


def _cause(error: Exception) -> Exception:
    return error.__cause__ if isinstance(error.__cause__, Exception) else error


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
    _, _, port = parts.netloc.partition(":")
    secret = "@" in parts.netloc or not (
        port.isdigit() or not port
    )  # a password may hold a slash, and end the host there
    if secret or parts.query:
        shown = "..." if secret else f"{parts.netloc}{parts.path}"
        raise PoolError(
            f"{parts.scheme}://{shown}: a URL with a user, a password or a query would be recorded with the "
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
