"""Finds strategies, recipes and encoders by name: a file of ours, an entry point, or a dotted path to somebody's own file.

Listing reads the first line of each file without importing it, so it takes no time.
"""

import ast
import difflib
import importlib
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from mcdal.errors import ConfigError
from mcdal.own_code import FROM_FILE, import_file, import_module, importing

NOT_LISTED = {"base"}
"""Beside the files that begin with `_`: what several of the listed ones share."""


def listed(kind: str) -> dict[str, str]:
    """Name and one line on each of a kind ("strategies", "recipes", "encoders"), by name. Plugins come after our own."""
    own = {path.stem: _first_line(path) for path in _own_files(kind)}
    plugins: dict[str, str] = {}
    for point in _plugins(kind):
        if point.name in own:
            own[point.name] += f" (hides the plugin {point.value}, which is named so too)"
        else:
            plugins[point.name] = f"{plugins[point.name]}, and " if point.name in plugins else ""
            plugins[point.name] += f"from {point.value}"
    return own | plugins


def load(kind: str, name: str) -> Any:
    """The object called `name`: for "strategies" and "encoders" the class, for "recipes" the function.

    `name` is a listed name, or "path/to/file.py:Name", or "package.module:Name". Raises ConfigError naming what there is.
    """
    if ":" in name:
        return _usable(kind, _load_path(kind, name), name)
    if name in {path.stem for path in _own_files(kind)}:
        return _main_object(kind, importlib.import_module(f"mcdal.{kind}.{name}"), name)
    if points := [point for point in _plugins(kind) if point.name == name]:
        return _load_plugin(kind, points, name)
    if name.endswith(".py"):
        there = ", ".join(f"{name}:{each}" for each in _candidates(kind, import_file(Path(name))))
        raise ConfigError(f"{name} is a file: say which {_singular(kind)} of it: {there or 'it has none'}")
    names = list(listed(kind))
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigError(
        f"no {_singular(kind)} {name!r}: {hint}there are {', '.join(names)}; your own is named as path/to/file.py:NAME"
    )


def _own_files(kind: str) -> Iterator[Path]:
    for path in sorted((Path(__file__).parent / kind).glob("*.py")):
        if path.stem not in NOT_LISTED and not path.stem.startswith("_"):
            yield path


def _plugins(kind: str) -> list[EntryPoint]:
    return sorted(entry_points(group=f"mcdal.{kind}"), key=lambda point: point.name)


def _first_line(path: Path) -> str:
    """The first line of a file's docstring, without the name that it begins with."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = doc.partition("\n")[0]
    name, colon, rest = line.partition(": ")
    return rest if colon and re.sub(r"[-_ ]", "", name).lower() == path.stem.replace("_", "") else line


def _load_plugin(kind: str, points: list[EntryPoint], name: str) -> Any:
    if len({point.value for point in points}) > 1:
        values = ", ".join(point.value for point in points)
        raise ConfigError(f"several plugins are called {name!r}: name the one you mean: {values}")
    (point, *_) = points
    package = f" of {point.dist.name}" if point.dist is not None else ""
    with importing(f"the plugin {name!r}{package} ({point.value})"):
        return _usable(kind, point.load(), point.value)


def _load_path(kind: str, name: str) -> Any:
    where, _, attribute = name.rpartition(":")
    if not where or not attribute:
        raise ConfigError(f"{name!r}: write path/to/file.py:NAME or package.module:NAME")
    module = import_file(Path(where)) if where.endswith(".py") else import_module(where)
    if hasattr(module, attribute):
        return getattr(module, attribute)
    there = ", ".join(_candidates(kind, module)) or f"no {_singular(kind)} at all"
    raise ConfigError(f"{where} has no {attribute!r} to use as a {_singular(kind)}; it has {there}")


def _candidates(kind: str, module: ModuleType) -> list[str]:
    """Names of what a module itself defines that could be meant."""
    own = {n: o for n, o in vars(module).items() if getattr(o, "__module__", None) == module.__name__}
    names = [n for n, o in own.items() if not n.startswith("_") and _problem(kind, o) is None]
    return [n for n in names if kind != "recipes" or not isinstance(own[n], type)]


def _usable(kind: str, found: Any, name: str) -> Any:
    problem = _problem(kind, found)
    if problem is not None:
        raise ConfigError(f"{name} cannot be used as a {_singular(kind)}: {problem}")
    return found


def _problem(kind: str, found: Any) -> str | None:
    """Why an object is no recipe or strategy, in words; None where it is one."""
    if kind == "recipes":
        if callable(found):  # a class too: what it returns is seen when it is called
            return None
        return f"it is {_described_object(found)}, not a function that returns a mcdal.Config"
    base = _base(kind)
    if not (isinstance(found, type) and issubclass(found, base)) or found is base:
        return f"it is {_described_object(found)}, not a class that extends mcdal.{base.__name__}"
    if "__dataclass_fields__" not in vars(found) and (inspect.get_annotations(found) or "__init__" in vars(found)):
        return "it has fields but is no dataclass: put @dataclass above the class, so that its fields are recorded"
    parameters = inspect.signature(found).parameters.values()
    missing = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return f"give a default to its field {', '.join(missing)}" if missing else None


def _described_object(found: Any) -> str:
    return f"the class {found.__name__}" if isinstance(found, type) else f"an object of {type(found).__name__}"


def _main_object(kind: str, module: ModuleType, name: str) -> Any:
    """The recipe function named as its file, or the one Strategy or Encoder that a file defines."""
    if kind == "recipes":
        return getattr(module, name)
    own = [o for o in vars(module).values() if isinstance(o, type) and issubclass(o, _base(kind))]
    (found,) = [o for o in own if o.__module__ == module.__name__]
    return found


def _base(kind: str) -> type:
    """What the classes of a kind extend."""
    from mcdal.encoders.base import Encoder
    from mcdal.strategies.base import Strategy

    return {"strategies": Strategy, "encoders": Encoder}[kind]


def _singular(kind: str) -> str:
    return {"strategies": "strategy", "recipes": "recipe", "encoders": "encoder"}[kind]


def encoder(text: str) -> Any:
    """What `--encoder` names: a listed name, NAME:WHICH for encoders with a field `name` (timm:resnet50), or a dotted path."""
    name, colon, which = text.partition(":")
    if name not in listed("encoders"):
        return load("encoders", text)()
    made = load("encoders", name)
    if not colon:
        return made()
    if "name" not in made.__dataclass_fields__:
        raise ConfigError(f"--encoder {text}: {name} is one network and takes no name after it: --encoder {name}")
    return made(name=which)


def name_of(strategy: object) -> str:
    """The listed name of a strategy object: its file's name, or its dotted path if it is somebody's own."""
    kind = type(strategy)
    package, _, file = kind.__module__.rpartition(".")
    if package == "mcdal.strategies":
        return file
    if kind.__module__.startswith(FROM_FILE):
        return f"{kind.__module__.removeprefix(FROM_FILE)}.py:{kind.__qualname__}"
    return f"{kind.__module__}:{kind.__qualname__}"


def describe(kind: str, name: str) -> str:
    """What a person needs to use one strategy or recipe: its documentation and its fields with their defaults."""
    found = load(kind, name)
    headline = listed(kind).get(name)
    blocks = [f"{name}: {headline}" if headline else name]
    blocks += _of_recipe(found) if kind == "recipes" else _of_class(found, _singular(kind))
    return "\n\n".join(blocks)


def _of_class(found: Any, path: str) -> list[str]:
    from mcdal.settings import described

    return [inspect.cleandoc(found.__doc__ or ""), _shown(described(found(), path))]


def _of_recipe(found: Any) -> list[str]:
    from mcdal.config import call
    from mcdal.settings import described

    takes_data = "data" in inspect.signature(found).parameters
    try:
        config = call(found, Path("DIR") if takes_data else None, None)
    except Exception as error:  # somebody's own recipe may look into its data
        return [_options(found, takes_data), f"Its fields cannot be shown without its data: {error}"]
    parts = [("strategy", name_of(config.strategy))]
    parts += [(part, type(getattr(config, part)).__name__) for part in ("source", "model")]
    made_of = "\n".join(f"{part:<12}  {kind}" for part, kind in parts)
    return [f"{_options(found, takes_data)}\n{made_of}", _shown(described(config, ""))]


def _options(recipe: Any, takes_data: bool) -> str:
    from mcdal.config import default_scale, scales

    about = " ".join((inspect.getdoc(recipe) or "").split())
    lines = [f"--data DIR    {about}" if takes_data else about]
    if "scale" in inspect.signature(recipe).parameters:
        default = default_scale(recipe)
        others = [f", {scale}" for scale in scales(recipe) if scale != default]
        lines.append(f"--scale NAME  {default} (the default){''.join(others)}")
    return "\n".join(lines)


def _shown(fields: Iterable[tuple[str, str, str]]) -> str:
    """A line for each field, and below it what it is for."""
    width = min(shutil.get_terminal_size().columns, 120)
    lines = []
    for name, value, help in fields:
        lines.append(f"  {name} = {value}")
        lines += textwrap.wrap(help, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(
        ["Fields and their defaults, to be changed by --set FIELD=VALUE:", "", *lines] if lines else ["No fields."]
    )
