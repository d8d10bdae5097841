"""Where the rows of a folder are kept: in its own file, or by a PostgreSQL server that the folder names."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from mcdal.errors import StoreError
from mcdal.writing import replaced

SQLITE, ADDRESS = "mcdal.db", "database.json"
VARIABLE = "MCDAL_DATABASE"
DRIVERS = ("postgresql", "postgres", "postgresql+psycopg")


@dataclass(frozen=True)
class Address:
    """url: of a PostgreSQL database. images: of a folder that joined a campaign, where it has the images itself."""

    url: str
    images: Path | None = None


def is_store(folder: Path) -> bool:
    """Whether this folder has a store, wherever its rows are."""
    return (folder / SQLITE).exists() or (folder / ADDRESS).exists()


def address_of(folder: Path) -> Address | None:
    """What the folder names; None where it keeps its rows itself, or keeps none."""
    path = folder / ADDRESS
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Address(str(told["url"]), None if told.get("images") is None else Path(told["images"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}; change its permissions") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f'{path} is damaged: write {{"url": "postgresql://user@host/name"}} into it, or restore it from a backup'
        ) from error


def write_address(folder: Path, address: Address) -> None:
    """For the owner's eyes alone: a password may be in it."""
    told = {"url": address.url} | ({} if address.images is None else {"images": str(address.images)})
    with replaced(folder / ADDRESS) as beside:
        beside.touch(mode=0o600)
        beside.write_text(json.dumps(told) + "\n", encoding="utf-8")


def chosen(folder: Path, create: bool, url: str | None = None) -> Address | None:
    """The address to open this folder's rows at; None for its own file. StoreError where the folder keeps them elsewhere.

    url: as was asked for; where a store is made, the environment may ask as well.
    """
    there, asked = address_of(folder), "--database"
    if url is None and create:
        url, asked = default_url(folder), VARIABLE
    if url is None:
        return there
    if there is None and (folder / SQLITE).exists():
        raise StoreError(f"{folder} keeps its rows in {SQLITE}: leave out {asked}, or give another folder")
    if there is not None and not _same(parsed(there.url), parsed(url)):
        raise StoreError(
            f"{folder} keeps its rows in {shown(parsed(there.url))}, and {asked} is {shown(parsed(url))}: "
            "leave it out, or give another folder"
        )
    return Address(url, None if there is None else there.images)


def default_url(_folder: Path) -> str | None:
    """What the environment says of folders that name nothing."""
    return os.environ.get(VARIABLE) or None


def parsed(url: str) -> URL:
    """StoreError for what is not the URL of a PostgreSQL database; it is not repeated, as a password may be in it."""
    words = "this is no URL of a database: give postgresql://user@host/name (docs/postgresql.md)"
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError(words) from None
    if found.drivername not in DRIVERS:
        raise StoreError(f"{found.drivername}: {words}")
    return found.set(drivername="postgresql+psycopg")


def shown(url: URL) -> str:
    """The URL for people: without password and parameters."""
    bare = URL.create("postgresql", url.username, None, url.host, url.port, url.database)
    return bare.render_as_string()


def _same(one: URL, other: URL) -> bool:
    """Whether they are the same rows; the password may have changed."""
    return one._replace(password=None) == other._replace(password=None)
