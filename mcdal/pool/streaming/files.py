"""Images that lie by themselves in folders: a shard is some thousands of them, the class the folder that an image is in."""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mcdal.errors import PoolError
from mcdal.events import Listener
from mcdal.pool.assemble import digest
from mcdal.pool.decode import EXTENSIONS
from mcdal.pool.streaming.format import Bytes, Entries, Format, Found, Part
from mcdal.pool.streaming.split import is_test
from mcdal.pool.streaming.storage import RELIST, Storage, told
from mcdal.pool.streaming.walking import check_name

DEPTH = 64
ROWS = 10_000
"""Names in a row group of a listing: a shard of a large folder reads its own alone."""


@dataclass(frozen=True)
class FileShards(Format):
    """per_shard: files in a shard. label: None reads no classes from the names of folders."""

    per_shard: int = 10_000
    label: str | None = "label"

    place: ClassVar[tuple[str, str]] = ("size", "nothing")

    def find(self, storage: Storage, listings: Storage, again: bool, listen: Listener) -> list[Found]:
        """Folder by folder, each kept as a listing when it has been read: what a kill costs is the folder at hand.

        Neighbours below one folder of the root share a shard where they are small, test images with test images.
        """
        found: list[Found] = []
        waiting: list[tuple[_Folder, int, int]] = []
        room, beside = self.per_shard, None
        for number, folder in enumerate(_folders(storage, listings, again)):
            listen("prepare", done=number, total=number + 1, what=f"listing folders of {storage.name}")
            first = 0
            before, beside = beside, (folder.name.split("/")[0], is_test(folder.name))
            if waiting and before != beside:
                found.append(_shard(waiting))
                waiting, room = [], self.per_shard
            while first < len(folder.names):
                last = min(first + room, len(folder.names))
                waiting.append((folder, first, last))
                room -= last - first
                first = last
                if not room:
                    found.append(_shard(waiting))
                    waiting, room = [], self.per_shard
        return [*found, _shard(waiting)] if waiting else found

    def scan(self, storage: Storage, found: Found, listings: Storage) -> Entries:
        import pyarrow

        ids: list[str] = []
        sizes: list[int] = []
        for name, first, last in found.parts:
            names, of_these = _some(listings, name, first, last)
            ids += [f"{name}/{file}" if name else file for file in names]
            sizes += of_these
        places = np.zeros((len(ids), 2), dtype=np.int64)
        places[:, 0] = sizes
        classes = [id.rpartition("/")[0].rpartition("/")[2] for id in ids]
        labels = pyarrow.array(classes, pyarrow.string()) if self.label is not None and all(classes) else None
        return Entries(tuple(ids), labels, places)

    def stream(self, storage: Storage, part: Part) -> Iterator[Bytes]:
        images = storage.read_each((id, 0, None) for id in part.ids)
        for id, image, size in zip(part.ids, images, part.places[:, 0].tolist(), strict=True):
            if len(image) != size:
                raise PoolError(
                    f"{storage.url(id)} has {len(image)} bytes, and had {size} when it was listed: {RELIST}"
                )
            yield image

    def fetch(self, storage: Storage, part: Part) -> list[Bytes]:
        return list(self.stream(storage, part))

    def stamp(self, storage: Storage, shard: str) -> str | None:
        return None  # every file's size is compared when it is read


@dataclass(frozen=True)
class _Folder:
    """One folder: its own image files in the order of their names, and its subfolders. stamp: changes when a name does."""

    name: str
    stamp: str
    names: list[str]
    sizes: list[int]
    stamps: list[str]
    inside: list[str]


def _folders(storage: Storage, listings: Storage, again: bool) -> Iterator[_Folder]:
    """The root, or the folders of a list, and all below it, each before those in it, in the order of their names."""
    waiting = list(reversed(storage.names)) or [""]
    while waiting:
        name = waiting.pop()
        if name.count("/") >= DEPTH:
            raise PoolError(f"{storage.url(name)}: folders {DEPTH} deep; is there a link that leads in a circle?")
        folder = _listed(storage, name, listings, again)
        yield folder
        waiting += [f"{name}/{inside}" if name else inside for inside in reversed(folder.inside)]


def _listed(storage: Storage, name: str, listings: Storage, again: bool) -> _Folder:
    """As it was listed before, if it is as it was then: its time tells of names that came and went, not of other bytes."""
    with storage.reading(name):
        if storage.local is None:
            return _keep(listings, _asked(storage, name))
        path = storage.local / name
        if not path.is_dir():
            what = "is no folder" if path.exists() else "does not exist"
            raise PoolError(f"the folder {path} {what}: set source.data to folders of images")
        stamp = str(path.stat().st_mtime_ns)  # before its names are read: what comes in between is seen the next time
        kept = None if again else _kept(listings, name)
        if kept is not None and kept.stamp == stamp:
            return kept
        files, inside = [], []
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                check_name(entry.path)
                if entry.is_dir():
                    inside.append(entry.name)
                elif _is_image(entry.name):
                    stat = entry.stat()
                    files.append((entry.name, stat.st_size, str(stat.st_mtime_ns)))
        return _keep(listings, _sorted(name, stamp, files, inside))


def _asked(storage: Storage, name: str) -> _Folder:
    """From a store, which is asked anew each time: it has no times of folders."""
    system = storage.system()
    system.invalidate_cache()
    files, inside = [], []
    for info in system.ls(storage.url(name), detail=True):
        base = str(info["name"]).rstrip("/").rpartition("/")[2]
        if base.startswith(".") or not base:
            continue
        if info["type"] == "directory":
            if str(info["name"]).rstrip("/") != storage.path_of(name):
                inside.append(base)
        elif _is_image(base):
            full = f"{name}/{base}" if name else base
            file = told(base, info) if info.get("size") is not None else storage.file(full)
            files.append((base, file.size, file.stamp))
    return _sorted(name, digest(sorted(files)), files, inside)


def _sorted(name: str, stamp: str, files: list[tuple[str, int, str]], inside: list[str]) -> _Folder:
    files.sort()
    names, sizes, stamps = ([file[i] for file in files] for i in range(3))
    return _Folder(name, stamp, names, sizes, stamps, sorted(inside))  # type: ignore[arg-type]


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 - a Path for each of millions takes too long


def _shard(parts: list[tuple[_Folder, int, int]]) -> Found:
    """Named after its first folder; the stamp is of all names, sizes and times."""
    folder, first, _ = parts[0]
    files = [(f.name, f.names[a:b], f.sizes[a:b], f.stamps[a:b]) for f, a, b in parts]
    size = sum(sum(f.sizes[a:b]) for f, a, b in parts)
    return Found(f"{folder.name or '.'}:{first}", size, digest(files), tuple((f.name, a, b) for f, a, b in parts))


def _file_of(name: str) -> str:
    return f"folders/{hashlib.blake2b(name.encode(), digest_size=12).hexdigest()}.parquet"


def _keep(listings: Storage, folder: _Folder) -> _Folder:
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = json.dumps({"name": folder.name, "stamp": folder.stamp, "inside": folder.inside})
    table = pa.table({"name": pa.array(folder.names, pa.string()), "size": pa.array(folder.sizes, pa.int64()),
                      "stamp": pa.array(folder.stamps, pa.string())})  # fmt: skip
    sink = io.BytesIO()
    table = table.replace_schema_metadata({"mcdal": about})
    pq.write_table(table, sink, ROWS, compression="zstd", use_dictionary=False)
    listings.write(_file_of(folder.name), sink.getvalue())
    return folder


def _kept(listings: Storage, name: str) -> _Folder | None:
    import pyarrow.parquet as pq

    if not listings.exists(_file_of(name)):
        return None
    table = pq.read_table(io.BytesIO(listings.read(_file_of(name))))
    about: dict[str, Any] = json.loads(table.schema.metadata[b"mcdal"])
    names, sizes, stamps = (table.column(column).to_pylist() for column in ("name", "size", "stamp"))
    return _Folder(about["name"], about["stamp"], names, sizes, stamps, about["inside"])


def _some(listings: Storage, name: str, first: int, last: int) -> tuple[list[str], list[int]]:
    """Names and sizes of some files of a folder."""
    import pyarrow.parquet as pq

    groups = list(range(first // ROWS, -(-last // ROWS)))
    with listings.open(_file_of(name), ahead=False) as raw, pq.ParquetFile(raw) as file:
        table = file.read_row_groups(groups, columns=["name", "size"]).slice(first - groups[0] * ROWS, last - first)
    return table.column("name").to_pylist(), table.column("size").to_pylist()
