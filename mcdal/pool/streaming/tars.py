"""WebDataset tars: members that share a name up to the first dot are one sample."""

import copy
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any, ClassVar

import numpy as np

from mcdal.errors import PoolError
from mcdal.events import Listener
from mcdal.pool.decode import EXTENSIONS
from mcdal.pool.streaming.format import Bytes, Entries, Format, Found, Part, check_labels
from mcdal.pool.streaming.storage import Storage


@dataclass(frozen=True)
class TarShards(Format):
    """ending: of the image, such as `jpg`, where samples hold several. label: a field of `.json`; a `.cls` member goes first."""

    ending: str | None = None
    label: str | None = "label"

    place: ClassVar[tuple[str, str]] = ("offset", "size")

    def find(self, storage: Storage, listings: Storage, again: bool, listen: Listener) -> list[Found]:
        return [Found(file.name, file.size, file.stamp) for file in storage.files(".tar")]

    def scan(self, storage: Storage, found: Found, listings: Storage) -> Entries:
        import pyarrow

        with storage.reading(found.name), storage.open(found.name, ahead=True) as file:
            try:
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    samples = list(self._samples(storage.url(found.name), tar))
                    _check_end(tar, file)
            except (tarfile.TarError, EOFError) as error:
                raise PoolError(f"{storage.url(found.name)} is not a readable tar file: {error}") from error
        stem = found.name[: -len(".tar")]
        ids = tuple(f"{stem}/{sample.key}" for sample in samples)
        places = np.array([(s.offset, s.size) for s in samples], dtype=np.int64).reshape(-1, 2)
        values = [sample.label for sample in samples]
        if all(value is None for value in values):
            return Entries(ids, None, places)
        if bare := next((id for id, value in zip(ids, values, strict=True) if value is None), None):
            raise PoolError(
                f"{bare} has no label, but others in {found.name} have: give it a .cls member or a JSON field"
            )
        kinds = {type(value) for value in values}
        if not kinds <= {int} and not kinds <= {str}:
            raise PoolError(
                f"{found.name}: labels are class indices or class names, all alike; here are {_named(kinds)}"
            )
        return Entries(ids, check_labels(found.name, ids, pyarrow.array(values), "label"), places)

    def stream(self, storage: Storage, part: Part) -> Iterator[Bytes]:
        with storage.reading(part.shard), storage.open(part.shard, ahead=True) as file:
            for offset, size in part.places.tolist():
                file.seek(offset)
                yield _whole(storage, part.shard, file.read(size), size)

    def fetch(self, storage: Storage, part: Part) -> list[Bytes]:
        places = part.places.tolist()
        images = storage.read_each((part.shard, at, size) for at, size in places)
        return [_whole(storage, part.shard, image, size) for image, (_, size) in zip(images, places, strict=True)]

    def _samples(self, url: str, tar: tarfile.TarFile) -> Iterator["_Sample"]:
        members = (_resolved(url, tar, member) for member in tar if not member.isdir() and not _hidden(member.name))
        keys: set[str] = set()
        for key, group in groupby(members, key=lambda member: _split(member.name)[0]):
            if key in keys:
                raise PoolError(
                    f"{url}: the sample {key!r} comes twice; the members of a sample must follow each other"
                )
            keys.add(key)
            yield self._sample(url, tar, key, list(group))

    def _sample(self, url: str, tar: tarfile.TarFile, key: str, members: list[tarfile.TarInfo]) -> "_Sample":
        by_ending: dict[str, tarfile.TarInfo] = {}
        for member in members:
            ending = _split(member.name)[1]
            if ending in by_ending:
                raise PoolError(f"{url}: the sample {key!r} has two members that end in .{ending}: which one is meant?")
            by_ending[ending] = member
        images = [e for e in by_ending if (e == self.ending if self.ending else f".{e}" in EXTENSIONS)]
        if len(images) != 1:
            wanted = f"member ending in .{self.ending}" if self.ending else "image"
            raise PoolError(
                f"{url}: the sample {key!r} has {len(images)} {wanted}s among .{', .'.join(by_ending)}; say which one is meant "
                "with --set source.image_column=ENDING"
            )
        image = by_ending[images[0]]
        label = None if self.label is None else self._label(url, tar, key, by_ending)
        return _Sample(key, image.offset_data, image.size, label)

    def _label(self, url: str, tar: tarfile.TarFile, key: str, members: dict[str, tarfile.TarInfo]) -> Any:
        """An index where it is written in digits, else text; None where there is none."""
        if "cls" in members:
            text = _content(tar, members["cls"]).decode("utf-8", "replace").strip()
            return int(text) if text.isascii() and text.isdigit() else text
        if "json" in members:
            try:
                told = json.loads(_content(tar, members["json"]))
            except ValueError as error:
                raise PoolError(f"{url}: the JSON of {key!r} cannot be read: {error}") from error
            return told.get(self.label) if isinstance(told, dict) else None
        return None


@dataclass(frozen=True)
class _Sample:
    key: str
    offset: int
    size: int
    label: Any = field(default=None)


def _split(name: str) -> tuple[str, str]:
    """The folder with the name up to its first dot, and what follows that."""
    path = PurePosixPath(name)
    stem, _, ending = path.name.partition(".")
    return (path.parent / stem).as_posix(), ending.lower()


def _hidden(name: str) -> bool:
    return PurePosixPath(name).name.startswith(".")


def _resolved(url: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A hard link as the member that it stands for, under its own name. PoolError for what is no file."""
    if member.islnk():
        try:
            target = tar.getmember(member.linkname)
            if target.islnk():
                raise KeyError(member.linkname)
        except KeyError:
            raise PoolError(f"{url}: {member.name!r} is a link to {member.linkname!r}, which is not in it") from None
        named = copy.copy(target)
        named.name = member.name
        return _resolved(url, tar, named)
    if not member.isreg() or member.issparse():
        kind = (
            "a symbolic link" if member.issym() else "sparse" if member.issparse() else f"of the type {member.type!r}"
        )
        raise PoolError(f"{url}: {member.name!r} is {kind}: pack the files themselves (tar --dereference)")
    return member


def _check_end(tar: tarfile.TarFile, file: Any) -> None:
    """ReadError where the two blocks of zeros are missing that end a tar: Python's own reading passes over a cut."""
    last = tar.getmembers()[-1] if tar.getmembers() else None
    size = (
        0 if last is None or not last.isreg() else last.size
    )  # a link has the size of what it stands for, and no bytes
    file.seek(0 if last is None else last.offset_data + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it is cut off, or damaged in the middle: its end is missing")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _whole(storage: Storage, shard: str, image: bytes, size: int) -> bytes:
    if len(image) != size:
        raise PoolError(f"{storage.url(shard)} is shorter than when it was listed: it was cut off or replaced")
    return image


def _named(kinds: set[type]) -> str:
    return ", ".join(sorted(kind.__name__ for kind in kinds))
