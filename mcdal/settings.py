"""The fields of a configuration as people and files know them: `--set FIELD=VALUE`, help texts, JSON."""

import ast
import dataclasses
import difflib
import hashlib
import inspect
import json
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from mcdal.errors import ConfigError, McdalError
from mcdal.own_code import FROM_FILE
from mcdal.registry import load, name_of
from mcdal.strategies.base import Strategy

Part = TypeVar("Part")


class Given(NamedTuple):
    """One setting on its way to its field: the names that still lead there, the whole path and the text."""

    names: list[str]
    path: str
    text: str


def parse_settings(given: Iterable[str]) -> dict[str, str]:
    """["strategy.heads=4"] -> {"strategy.heads": "4"}. A field that is given twice is an error: which was meant?"""
    settings: dict[str, str] = {}
    for text in given:
        path, equals, value = (part.strip() for part in text.partition("="))
        if not (path and equals):
            raise ConfigError(f"--set {text}: write FIELD=VALUE, such as strategy.heads=4")
        if path in settings:
            raise ConfigError(f"--set {path} is given twice, as {settings[path]} and as {value}: give it once")
        settings[path] = value
    return settings


def override(config: Part, settings: Mapping[str, str]) -> Part:
    """The config with fields changed, such as {"strategy.heads": "4"}; a ConfigError names the field and what is allowed.

    Their order does not matter: fields of one part are changed together, and a strategy is named before its fields are set.
    """
    changed: Part = _with(config, [Given(path.split("."), path, text) for path, text in settings.items()])
    return changed


def canonical(config: object, settings: Mapping[str, str]) -> dict[str, str]:
    """The settings as the config took them: equal values are equal text, however they were written (0.1 or 1e-1)."""

    def taken(path: str) -> Any:
        part: Any = config
        for name in path.split("."):
            part = getattr(part, name)
        return part

    return {path: as_text(taken(path)) for path in settings}


def _with(part: Any, settings: list[Given]) -> Any:
    """The part with all these settings of it and of what it holds."""
    by_name: dict[str, list[Given]] = {}
    for given in settings:
        by_name.setdefault(given.names[0], []).append(given)
    changed = {name: _field(part, name, given) for name, given in by_name.items()}
    try:
        return replace(part, **changed) if changed else part
    except (ValueError, TypeError) as error:  # from the checks of a dataclass, somebody's own too
        if isinstance(error, McdalError) and any(given.path in str(error) for given in settings):
            raise
        said = " ".join(f"--set {given.path}={given.text}" for given in settings)
        raise ConfigError(f"{said}: {error}") from error


def _field(part: Any, name: str, settings: list[Given]) -> Any:
    """The new value of a field: set as a whole, or with fields of its own changed, or both (a strategy and its fields)."""
    path = settings[0].path
    fields = {f.name: f for f in dataclasses.fields(part) if f.init} if dataclasses.is_dataclass(part) else {}
    if name not in fields:
        close = difflib.get_close_matches(name, fields, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        there = f"it has {', '.join(fields)}" if fields else "it has none"
        raise ConfigError(f"--set {path}: {type(part).__name__} has no field {name!r}: {hint}{there}")
    value = getattr(part, name)
    for whole in (given for given in settings if len(given.names) == 1):
        value = _whole(part, name, value, whole)
    inner = [given._replace(names=given.names[1:]) for given in settings if len(given.names) > 1]
    if inner and not dataclasses.is_dataclass(value):
        wrong = inner[0]
        raise ConfigError(f"--set {wrong.path}: {name} is {as_text(value)!r} and has no field {wrong.names[0]!r}")
    return _with(value, inner) if inner else value


def _whole(part: Any, name: str, value: Any, given: Given) -> Any:
    hint = _hint(part, name, given.path)
    if Strategy in (hint, *get_args(hint)):
        none = type(None) in get_args(hint) and AS_JSON.get(given.text, given.text) == "null"
        return None if none else _strategy(value, given)
    if dataclasses.is_dataclass(value):
        inner = ", ".join(f"{given.path}.{f.name}" for f in dataclasses.fields(value) if f.init)
        raise ConfigError(f"--set {given.path}: this is a group of fields{f': set one of {inner}' if inner else ''}")
    return _parse(hint, given.path, given.text)


def _strategy(value: Strategy | None, given: Given) -> Strategy:
    """The one that is named. A recipe may have set fields of its own: naming that strategy keeps them."""
    try:
        kind = load("strategies", given.text)
        made: Strategy = value if value is not None and type(value) is kind else kind()
    except McdalError as error:
        raise ConfigError(f"--set {given.path}={given.text}: {error}") from error
    return made


def _hint(part: Any, name: str, path: str) -> Any:
    try:
        return get_type_hints(type(part))[name]
    except NameError as error:  # a name that is imported for type checkers alone
        raise ConfigError(f"--set {path}: the types of {type(part).__name__} cannot be read: {error}") from error


AS_JSON = {"True": "true", "False": "false", "None": "null"}


def _parse(hint: Any, path: str, text: str) -> Any:
    """`text` as JSON (or as Python's True, False, None) where that fits the field's type, else as a plain string."""
    problems = []
    for reading in (AS_JSON.get(text, text), json.dumps(text)):
        try:
            json.loads(reading)
            value = TypeAdapter(hint).validate_json(reading, strict=True)
        except ValidationError as error:
            wanted = dict.fromkeys(e["msg"].removeprefix("Input should be ") for e in error.errors())
            problems.append(" or ".join(wanted))
        except PydanticUserError:
            raise ConfigError(
                f"--set {path}: a value of this type cannot be written down: set it in a recipe"
            ) from None
        except ValueError:
            continue  # not JSON
        else:
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"--set {path}={text}: give a finite number")
            return value
    raise ConfigError(f"--set {path}={text}: it should be {problems[0]}")


def as_text(value: Any) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, Strategy):
        return name_of(value)
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    plain = to_json(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def field_help(kind: type) -> dict[str, str]:
    """What each field of a dataclass is for: the string below it in the source, its own or a parent's."""
    found: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        if dataclasses.is_dataclass(parent):
            found |= _own_field_help(parent)
    return found


def _own_field_help(kind: type) -> dict[str, str]:
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except (OSError, TypeError):  # made where there is no file
        return {}
    assert isinstance(body, ast.ClassDef)
    found = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[statement.target.id] = " ".join(text.value.split())
    return found


def described(part: Any, path: str) -> Iterator[tuple[str, str, str]]:
    """Each field that `--set` can change: its dotted name, its value, and what it is for."""
    help_of = field_help(type(part))
    for f in dataclasses.fields(part) if dataclasses.is_dataclass(part) else ():
        value, name = getattr(part, f.name), f"{path}.{f.name}" if path else f.name
        if f.init and dataclasses.is_dataclass(value):
            yield from described(value, name)
        elif f.init:
            yield name, as_text(value), help_of.get(f.name, "")


def to_json(value: Any) -> Any:
    """A config as plain JSON values. A dataclass says its type; an object that is no dataclass is named by its type alone."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {"type": f"{type(value).__module__}:{type(value).__qualname__}", **_code(type(value))}
        return named | {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(to_json(v) for v in value)
    if isinstance(value, Enum):
        return to_json(value.value)
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    of = value if isinstance(value, type) or callable(value) else type(value)
    return {"object": f"{of.__module__}:{getattr(of, '__qualname__', type(of).__name__)}", **_code(of)}


def filled(recorded: Any, part: Any) -> Any:
    """The recorded JSON of a config like `part`, with the fields that its version did not know yet, at their defaults."""
    if not (isinstance(recorded, Mapping) and dataclasses.is_dataclass(part) and not isinstance(part, type)):
        return recorded
    if recorded.get("type") != to_json(part)["type"]:
        return recorded
    whole = dict(recorded)
    for f in dataclasses.fields(part):
        if not f.init:
            continue
        if f.name in recorded:
            whole[f.name] = filled(recorded[f.name], getattr(part, f.name))
        elif f.default is not dataclasses.MISSING:
            whole[f.name] = to_json(f.default)
        elif f.default_factory is not dataclasses.MISSING:
            whole[f.name] = to_json(f.default_factory())
    return whole


def _code(thing: Any) -> dict[str, str]:
    """A digest of somebody's own code, so that a run is not continued with another algorithm of the same name.

    Of the whole file where a file was named on the command line, helper functions included; else of the class or function.
    """
    if thing.__module__.partition(".")[0] == "mcdal":
        return {}
    try:
        if thing.__module__.startswith(FROM_FILE):
            source = Path(inspect.getfile(thing)).read_text(encoding="utf-8")
        else:
            source = inspect.getsource(thing)
    except (OSError, TypeError):  # typed into an interpreter, or not written in Python
        return {}
    return {"code": hashlib.sha256(source.encode()).hexdigest()[:16]}
