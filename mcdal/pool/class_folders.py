"""Files in folders named after classes: the listing that the folder and the Caltech source share."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcdal.errors import PoolError
from mcdal.pool.decode import EXTENSIONS
from mcdal.pool.encoded import EncodedFiles
from mcdal.pool.prepare import Listing
from mcdal.pool.split import stratified

JUNK = "__MACOSX"


@dataclass(frozen=True)
class Found:
    """One image file: its id, its class, and what changes when the file does."""

    id: str
    class_name: str
    path: Path
    size: int
    changed: int


@dataclass(frozen=True)
class Classes:
    """The image files of a folder of class folders, ordered by id. `ignored` counts other files by extension."""

    names: tuple[str, ...]
    files: tuple[Found, ...]
    ignored: Counter[str]


def find_classes(folder: Path, root: Path) -> Classes:
    """Looks into every class folder and below. Ids are paths relative to `root`. PoolError for an empty class."""
    if not folder.is_dir():
        raise PoolError(f"the folder {folder} does not exist: set source.data to a folder with a folder for each class")
    names = tuple(sorted(child.name for child in subfolders(folder)))
    if len(names) < 2:
        found = f"only one class folder, {names[0]!r}" if names else "no class folders"
        raise PoolError(f"{folder} has {found}: put the images of each class into a folder named after it")
    ignored = Counter(kind(child.name) for child in os.scandir(folder) if child.is_file() and not hidden(child.name))
    files: list[Found] = []
    for name in names:
        images = list(_images(folder / name, root, name, ignored))
        if not images:
            raise PoolError(f"the class folder {folder / name} holds no image: add images or remove the folder")
        files += images
    return Classes(names, tuple(sorted(files, key=lambda file: file.id)), ignored)


def subfolders(folder: Path) -> list[Path]:
    """Folders that are not hidden and not left behind by an unpacker."""
    return [child for child in folder.iterdir() if child.is_dir() and not hidden(child.name) and child.name != JUNK]


def hidden(name: str) -> bool:
    return name.startswith(".")


def kind(name: str) -> str:
    """What a file that is ignored is called in the notes."""
    return Path(name).suffix.lower() or "without extension"


def _images(folder: Path, root: Path, class_name: str, ignored: Counter[str]) -> Iterator[Found]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not hidden(name)]
        for name in names:
            if hidden(name):
                continue
            if Path(name).suffix.lower() not in EXTENSIONS:
                ignored[kind(name)] += 1
                continue
            path = Path(parent, name)
            yield found(path, path.relative_to(root).as_posix(), class_name)


def found(path: Path, id: str, class_name: str) -> Found:
    try:
        id.encode()
    except UnicodeEncodeError:
        raise PoolError(f"the file name {os.fsencode(path)!r} is not UTF-8: rename the file") from None
    try:
        state = path.stat()
    except OSError as error:
        raise PoolError(f"{path} cannot be read: {error.strerror}; a link may point nowhere") from error
    return Found(id, class_name, path, state.st_size, state.st_mtime_ns)


def split_by_share(name: str, classes: Classes, share: float, seed: int) -> Listing:
    """A listing with a stratified held-out share for the test."""
    index = {class_name: i for i, class_name in enumerate(classes.names)}
    targets = [index[file.class_name] for file in classes.files]
    pool, test = stratified(tuple(file.id for file in classes.files), targets, share, seed)
    parts = [[classes.files[i] for i in chosen] for chosen in (pool, test)]
    return listing(name, classes.names, parts[0], parts[1], classes.ignored)


def listing(name: str, names: tuple[str, ...], pool: list[Found], test: list[Found], ignored: Counter[str]) -> Listing:
    """What is known of the files, for `prepare`. PoolError for a test class that the pool does not have."""
    index = {class_name: i for i, class_name in enumerate(names)}
    foreign = next((file for file in test if file.class_name not in index), None)
    if foreign:
        raise PoolError(
            f"the test image {foreign.id} is of the class {foreign.class_name!r}, which the pool does not have"
        )
    untested = sorted(set(names) - {file.class_name for file in test})
    notes = [f"no test image of the class {class_name!r}" for class_name in untested]
    if ignored:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items()))
        notes.append(f"files that are no images were ignored: {counts}")
    return Listing(
        name,
        names,
        _encoded(pool, index),
        _encoded(test, index),
        sizes=tuple(file.size for file in (*pool, *test)),
        stamps=tuple((str(file.path), file.size, file.changed) for file in (*pool, *test)),
        notes=tuple(notes),
    )


def _encoded(files: list[Found], index: dict[str, int]) -> EncodedFiles:
    targets = np.array([index[file.class_name] for file in files], dtype=np.int64)
    return EncodedFiles(tuple(file.id for file in files), targets, tuple(file.path for file in files))
