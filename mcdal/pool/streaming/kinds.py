"""Which kind of shards lies in a place."""

from dataclasses import dataclass

from mcdal.errors import PoolError
from mcdal.pool.streaming.files import FileShards
from mcdal.pool.streaming.format import Format
from mcdal.pool.streaming.kind import Kind
from mcdal.pool.streaming.lance import LanceShards
from mcdal.pool.streaming.parquet import ParquetShards
from mcdal.pool.streaming.storage import Storage
from mcdal.pool.streaming.tars import TarShards


@dataclass(frozen=True)
class Names:
    """How columns are called, and how many files make a shard."""

    image: str
    label: str | None
    id: str | None
    files_per_shard: int


def format_of(kind: Kind, storage: Storage, names: Names) -> tuple[Storage, Format]:
    """The storage and how it is read. PoolError where two kinds lie there, or a field is set that the kind has not."""
    found = kind_in(storage) if kind == "auto" else kind
    if found in ("tar", "files") and names.id is not None:
        raise PoolError(
            f"{storage.root}: source.id_column is {names.id!r}, but {found} has no columns: ids are made of the names"
        )
    if found == "lance":
        return storage, LanceShards(names.image, names.label, names.id)
    if found == "parquet":
        return storage, ParquetShards(names.image, names.label, names.id)
    if found == "tar":
        return storage, TarShards(None if names.image == "image" else names.image.lstrip(".").lower(), names.label)
    return storage, FileShards(names.files_per_shard, names.label)


def kind_in(storage: Storage) -> Kind:
    """By the endings of what lies there; folders of files where there is no shard. PoolError where two kinds lie there."""
    if storage.root.endswith(".lance") or storage.exists("_versions"):
        return "lance"
    endings = storage.endings()
    parquet, tar = ".parquet" in endings, ".tar" in endings
    if parquet and tar:
        raise PoolError(
            f"{storage.root} has Parquet files and tars: say which are meant with --set source.kind=parquet or =tar (of a "
            "campaign --kind parquet or tar)"
        )
    return "parquet" if parquet else "tar" if tar else "files"
