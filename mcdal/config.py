"""One run's configuration: a dataclass of dataclasses. A recipe is a function that returns one; `--set` changes a field."""

import ast
import dataclasses
import difflib
import hashlib
import inspect
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from mcdal.errors import ConfigError, McdalError
from mcdal.models.base import Architecture
from mcdal.pool.base import Source
from mcdal.strategies.base import Strategy
from mcdal.training import Training


@dataclass(frozen=True)
class Protocol:
    """How many samples are labeled when. Round 0 is a random start; each later round adds a batch that the strategy picks."""

    start: int | float = 0.1
    """Labels of round 0: a number of samples, or a share of the pool (a fraction below 1)."""
    budget: int | float = 0.05
    """Labels that each later round adds: a number of samples, or a share of the pool."""
    rounds: int = 7
    """Number of rounds, the start included: 7 leads from 10 % by 5 % to 40 %."""

    def __post_init__(self) -> None:
        for name in ("start", "budget"):
            value = getattr(self, name)
            unclear = isinstance(value, float) and value == 1  # one sample, or all of them?
            if not 0 < value < math.inf or (value >= 1 and value != int(value)) or unclear:
                raise ConfigError(f"protocol.{name} = {value}: give a whole number of samples, or a share below 1")
        if self.rounds < 1:
            raise ConfigError(f"protocol.rounds = {self.rounds}: give at least 1")

    def sizes(self, pool_size: int) -> list[int]:
        """How many samples each round asks for. Raises ConfigError where the pool is too small for it."""
        start, budget = (max(1, round(x * pool_size)) if x < 1 else int(x) for x in (self.start, self.budget))
        total = start + (self.rounds - 1) * budget
        if total > pool_size:
            raise ConfigError(
                f"the protocol asks for {start} + {self.rounds - 1} x {budget} = {total} labels, but the pool has {pool_size} "
                "samples: lower protocol.start, protocol.budget or protocol.rounds"
            )
        return [start] + [budget] * (self.rounds - 1)


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's result, but for its seed."""

    source: Source
    """Where the images come from."""
    model: Architecture
    """The network, built afresh each round."""
    strategy: Strategy
    """What decides which samples to label."""
    training: Training = field(default_factory=Training)
    """How the network is trained, the same for every strategy."""
    protocol: Protocol = field(default_factory=Protocol)
    """How many samples are labeled when."""
    notes: tuple[str, ...] = ()
    """What a reader of the results should know; shown in the report."""
    checkpoint_seconds: float = 60.0
    """How often the state of a training is kept. Has no effect on results."""
    gallery: int = 24
    """How many of each round's picks are kept as pictures for the report. Has no effect on results."""

    def __post_init__(self) -> None:
        for name in ("checkpoint_seconds", "gallery"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: give 0 or more")


# The same run whatever these say. Other data are told by their fingerprint, not by where they lie.
WITHOUT_EFFECT = (
    "checkpoint_seconds", "gallery", "notes", "source.data", "source.test", "source.cache_gib", "source.workers",
)  # fmt: skip


def build(recipe: Callable[..., Config], data: Path | None, scale: str | None) -> Config:
    """Calls a recipe with what it takes: `data` (a folder) and `scale` are optional parameters of it."""
    if data is not None:
        data = data.expanduser()
        if not data.exists():
            raise ConfigError(f"--data {data} does not exist")
    return call(recipe, data, scale)


def call(recipe: Callable[..., Config], data: Path | None, scale: str | None) -> Config:
    """As `build`, but `data` need not exist."""
    name = getattr(recipe, "__name__", str(recipe))
    if isinstance(recipe, type):
        raise ConfigError(f"{name} is a class, not a function that returns a mcdal.Config")
    parameters = inspect.signature(recipe).parameters
    given = {key: value for key, value in (("data", data), ("scale", scale)) if value is not None}
    for key in given:
        if key not in parameters:
            raise ConfigError(f"the recipe {name} takes no --{key}")
    known = scales(recipe)
    if known and scale is not None and scale not in known:
        raise ConfigError(f"--scale {scale}: the recipe {name} has {', '.join(known)}")
    missing = [p.name for p in parameters.values() if _is_required(p) and p.name not in given]
    if "data" in missing:
        raise ConfigError(f"the recipe {name} needs --data DIR: {inspect.getdoc(recipe) or 'where its images lie'}")
    if missing:
        raise ConfigError(f"the recipe {name} needs a value for {', '.join(missing)}: only data and scale can be given")
    made = recipe(**given)
    if not isinstance(made, Config):
        raise ConfigError(f"the recipe {name} returned {type(made).__name__}, not a mcdal.Config")
    return made


def _is_required(parameter: inspect.Parameter) -> bool:
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in optional


def scales(recipe: Callable[..., Config]) -> tuple[str, ...]:
    """The scales that a recipe declares, as `scale: Literal["full", "small"] = "full"`."""
    hint = get_type_hints(recipe).get("scale")
    return tuple(map(str, get_args(hint))) if get_origin(hint) is Literal else ()


def default_scale(recipe: Callable[..., Config]) -> str:
    """The scale that a recipe takes when none is given; "full" for a recipe without scales."""
    parameter = inspect.signature(recipe).parameters.get("scale")
    return "full" if parameter is None else str(parameter.default)


def choose_scale(scale: str, **choices: Callable[[], Config]) -> Config:
    """For recipes: the configuration of this scale, or an error that names the scales there are."""
    if scale not in choices:
        raise ConfigError(f"no scale {scale!r}: this recipe has {', '.join(choices)}")
    return choices[scale]()


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


def override(config: Config, settings: Mapping[str, str]) -> Config:
    """The config with fields changed, such as {"strategy.heads": "4"}; a ConfigError names the field and what is allowed."""
    for path, text in settings.items():
        try:
            config = _with(config, path.split("."), path, text)
        except McdalError as error:
            if path in str(error):
                raise
            raise ConfigError(f"--set {path}={text}: {error}") from error
    return config


def canonical(config: Config, settings: Mapping[str, str]) -> dict[str, str]:
    """The settings as the config took them: equal values are equal text, however they were written (0.1 or 1e-1)."""

    def taken(path: str) -> Any:
        part: Any = config
        for name in path.split("."):
            part = getattr(part, name)
        return part

    return {path: as_text(taken(path)) for path in settings}


def _with(part: Any, names: list[str], path: str, text: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(part) if f.init} if dataclasses.is_dataclass(part) else {}
    name = names[0]
    if name not in fields:
        close = difflib.get_close_matches(name, fields, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        there = f"it has {', '.join(fields)}" if fields else "it has none"
        raise ConfigError(f"--set {path}: {type(part).__name__} has no field {name!r}: {hint}{there}")
    value = getattr(part, name)
    if len(names) > 1:
        if not dataclasses.is_dataclass(value):
            raise ConfigError(f"--set {path}: {name} is {as_text(value)!r} and has no field {names[1]!r}")
        return replace(part, **{name: _with(value, names[1:], path, text)})
    if dataclasses.is_dataclass(value):
        inner = ", ".join(f"{path}.{f.name}" for f in dataclasses.fields(value) if f.init)
        raise ConfigError(f"--set {path}: this is a group of fields{f': set one of {inner}' if inner else ''}")
    changed = {name: _parse(_hint(part, name, path), path, text)}
    try:
        return replace(part, **changed)
    except McdalError:
        raise
    except (ValueError, TypeError) as error:  # from the checks of somebody's own dataclass
        raise ConfigError(f"--set {path}={text}: {error}") from error


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
    return {"object": f"{of.__module__}:{getattr(of, '__qualname__', type(of).__name__)}"}


def _code(kind: type) -> dict[str, str]:
    """A digest of the source of somebody's own class, so that a run is not continued with another algorithm of the same name."""
    if kind.__module__.partition(".")[0] == "mcdal":
        return {}
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):  # typed into an interpreter
        return {}
    return {"code": hashlib.sha256(source.encode()).hexdigest()[:16]}


def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config's JSON that can change a result, flat: {"strategy.heads": 2, ...}. Where the data lie cannot."""
    flat: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                walk(inner, f"{path}.{name}" if path else name)
        else:
            flat[path] = value

    walk(config, "")
    return {path: value for path, value in flat.items() if path not in WITHOUT_EFFECT}


def run_id(recipe: str, scale: str, strategy: str, seed: int, overrides: Mapping[str, str]) -> str:
    """The name of a run: the same command gives the same one. Overrides that can change a result appear as a short hash."""
    plain = [_plain(recipe), *([_plain(scale)] if scale != "full" else []), _plain(strategy)]
    deciding = {path: text for path, text in sorted(overrides.items()) if path not in WITHOUT_EFFECT}
    if deciding:
        plain.append(hashlib.sha256(json.dumps(deciding).encode()).hexdigest()[:8])
    return "-".join([*plain, f"s{seed}"])


def _plain(name: str) -> str:
    """A name fit for a file: the last part of a dotted path."""
    last = name.rpartition(":")[2]
    return "".join(c if c.isalnum() or c in "_." else "_" for c in last)
