"""One run's configuration: a dataclass of dataclasses. A recipe is a function that returns one; `--set` changes a field."""

import ast
import dataclasses
import difflib
import hashlib
import inspect
import json
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from mcdal.errors import ConfigError
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
            if not value > 0 or (value >= 1 and value != int(value)):
                raise ConfigError(
                    f"protocol.{name} = {value}: give a whole number of samples, or a share between 0 and 1"
                )
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


WITHOUT_EFFECT = ("checkpoint_seconds", "gallery")


def build(recipe: Callable[..., Config], data: Path | None, scale: str | None) -> Config:
    """Calls a recipe with what it takes: `data` (a folder) and `scale` are optional parameters of it."""
    parameters = inspect.signature(recipe).parameters
    arguments: dict[str, object] = {}
    for name, value in (("data", data), ("scale", scale)):
        if value is None:
            continue
        if name not in parameters:
            raise ConfigError(f"the recipe {recipe.__name__} takes no --{name}")
        arguments[name] = value
    needs_data = "data" in parameters and parameters["data"].default is inspect.Parameter.empty
    if needs_data and data is None:
        raise ConfigError(
            f"the recipe {recipe.__name__} needs --data DIR: {inspect.getdoc(recipe) or 'where its images lie'}"
        )
    made = recipe(**arguments)
    if not isinstance(made, Config):
        raise ConfigError(f"the recipe {recipe.__name__} returned {type(made).__name__}, not a mcdal.Config")
    return made


def default_scale(recipe: Callable[..., Config]) -> str:
    """The scale that a recipe takes when none is given; "full" for a recipe without scales."""
    parameter = inspect.signature(recipe).parameters.get("scale")
    return "full" if parameter is None else str(parameter.default)


def choose_scale(scale: str, **choices: Callable[[], Config]) -> Config:
    """For recipes: the configuration of this scale, or an error that names the scales there are."""
    if scale not in choices:
        raise ConfigError(f"no scale {scale!r}: this recipe has {', '.join(choices)}")
    return choices[scale]()


def override(config: Config, settings: Mapping[str, str]) -> Config:
    """The config with fields changed, such as {"strategy.heads": "4"}; a ConfigError names the field and what is allowed."""
    for path, text in settings.items():
        config = _with(config, path.split("."), path, text)
    return config


def _with(part: Any, names: list[str], path: str, text: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(part) if f.init}
    name = names[0]
    if name not in fields:
        close = difflib.get_close_matches(name, fields, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(
            f"--set {path}: {type(part).__name__} has no field {name!r}: {hint}it has {', '.join(fields)}"
        )
    value = getattr(part, name)
    if len(names) > 1:
        if not dataclasses.is_dataclass(value):
            raise ConfigError(f"--set {path}: {name} is a plain value and has no field {names[1]!r}")
        return replace(part, **{name: _with(value, names[1:], path, text)})
    if dataclasses.is_dataclass(value):
        inner = ", ".join(f"{path}.{f.name}" for f in dataclasses.fields(value) if f.init)
        raise ConfigError(f"--set {path}: this is a group of fields: set one of {inner}")
    return replace(part, **{name: _parse(get_type_hints(type(part))[name], path, text)})


def _parse(hint: Any, path: str, text: str) -> Any:
    """`text` as JSON where it is JSON, else as a plain string, checked against the field's type."""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        allowed = "; ".join(dict.fromkeys(e["msg"] for e in error.errors()))
        raise ConfigError(f"--set {path}={text}: {allowed}") from None


def field_help(kind: type) -> dict[str, str]:
    """What each field of a dataclass is for: the string below it in the source."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except (OSError, TypeError):
        return {}
    assert isinstance(body, ast.ClassDef)
    found = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[statement.target.id] = " ".join(text.value.split())
    return found


def to_json(value: Any) -> Any:
    """A config as plain JSON values. A dataclass says its type; an object that is no dataclass is named by its type alone."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {"type": f"{type(value).__module__}:{type(value).__qualname__}", **_code(type(value))}
        return named | {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
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

    walk({name: value for name, value in config.items() if name not in WITHOUT_EFFECT}, "")
    return {path: value for path, value in flat.items() if path not in ("source.data", "notes")}


def run_id(recipe: str, scale: str, strategy: str, seed: int, overrides: Mapping[str, str]) -> str:
    """The name of a run: the same command gives the same one. Overrides appear as a short hash."""
    plain = [_plain(recipe), *([scale] if scale != "full" else []), _plain(strategy)]
    if overrides:
        plain.append(hashlib.sha256(json.dumps(dict(sorted(overrides.items()))).encode()).hexdigest()[:8])
    return "-".join([*plain, f"s{seed}"])


def _plain(name: str) -> str:
    """A name fit for a file: the last part of a dotted path."""
    last = name.rpartition(":")[2]
    return "".join(c if c.isalnum() or c in "_." else "_" for c in last)
