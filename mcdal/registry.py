"""Finds strategies and recipes by name: a file of this package, an entry point, or a dotted path to somebody's own file.

Listing reads the first line of each file without importing it, so it takes no time.
"""

import ast
import dataclasses
import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from mcdal.errors import ConfigError

NOT_LISTED = {"__init__", "base"}


def listed(kind: str) -> dict[str, str]:
    """Name and one line on each of a kind ("strategies", "recipes"), by name. Plugins come after our own."""
    own = {path.stem: _first_line(path) for path in _own_files(kind)}
    return own | {point.name: f"from {point.value}" for point in _plugins(kind)}


def load(kind: str, name: str) -> Any:
    """The object called `name`: for "strategies" the Strategy class, for "recipes" the function.

    `name` is a listed name, or "path/to/file.py:Name", or "package.module:Name". Raises ConfigError naming what there is.
    """
    if ":" in name:
        return _load_path(kind, name)
    if name in {path.stem for path in _own_files(kind)}:
        return _main_object(kind, importlib.import_module(f"mcdal.{kind}.{name}"), name)
    for point in _plugins(kind):
        if point.name == name:
            return point.load()
    names = list(listed(kind))
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(
        f"no {_singular(kind)} {name!r}: {hint}there are {', '.join(names)}; your own is named as path/to/file.py:NAME"
    )


def _own_files(kind: str) -> Iterator[Path]:
    for path in sorted((Path(__file__).parent / kind).glob("*.py")):
        if path.stem not in NOT_LISTED:
            yield path


def _plugins(kind: str) -> list[EntryPoint]:
    return sorted(entry_points(group=f"mcdal.{kind}"), key=lambda point: point.name)


def _first_line(path: Path) -> str:
    """The first line of a file's docstring, without the name that it begins with."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = doc.partition("\n")[0]
    name, colon, rest = line.partition(": ")
    return rest if colon and name.replace("-", "_").replace(" ", "_").lower() == path.stem else line


def _load_path(kind: str, name: str) -> Any:
    where, _, attribute = name.rpartition(":")
    module = _import_file(Path(where)) if where.endswith(".py") else _import_module(where, name)
    try:
        return getattr(module, attribute)
    except AttributeError:
        there = [n for n in vars(module) if not n.startswith("_")]
        raise ConfigError(
            f"{where} has no {attribute!r} to use as a {_singular(kind)}; it has {', '.join(there)}"
        ) from None


def _import_module(where: str, name: str) -> ModuleType:
    # A person's own module lies in the folder they work in, which an installed command does not search.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        raise ConfigError(f"cannot import {where!r} of {name!r}: {error}") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"no file {path}: it was looked for in {Path.cwd()}")
    module_name = f"mcdal_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickling by workers look their module up there
    spec.loader.exec_module(module)
    return module


def _main_object(kind: str, module: ModuleType, name: str) -> Any:
    """The recipe function named as its file, or the one Strategy that a file defines."""
    if kind == "recipes":
        return getattr(module, name)
    from mcdal.strategies.base import Strategy

    own = [o for o in vars(module).values() if isinstance(o, type) and issubclass(o, Strategy)]
    (found,) = [o for o in own if o.__module__ == module.__name__]
    return found


def _singular(kind: str) -> str:
    return {"strategies": "strategy", "recipes": "recipe"}[kind]


def name_of(strategy: object) -> str:
    """The listed name of a strategy object: its file's name, or its dotted path if it is somebody's own."""
    kind = type(strategy)
    package, _, file = kind.__module__.rpartition(".")
    return file if package == "mcdal.strategies" else f"{kind.__module__}:{kind.__qualname__}"


def describe(kind: str, name: str) -> str:
    """What a person needs to use one strategy or recipe: its documentation and its fields with their defaults."""
    found = load(kind, name)
    lines = [inspect.cleandoc(found.__doc__ or "")]
    if dataclasses.is_dataclass(found):
        from mcdal.config import field_help

        help_of = field_help(found)  # type: ignore[arg-type]
        shown = [f for f in dataclasses.fields(found) if f.init]
        lines += ["", *(f"strategy.{f.name} = {f.default!r}: {help_of.get(f.name, '')}" for f in shown)]
    return "\n".join(lines)
