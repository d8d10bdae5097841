"""A run that is wanted: what it is called, and whether a recorded one is the same."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mcdal.config import Config
from mcdal.errors import StoreError
from mcdal.settings import filled, to_json
from mcdal.store import RunRecord
from mcdal.streams import stream

# The same run whatever these say. Other data, features and weights are told by their content, not by where they lie.
WITHOUT_EFFECT = (
    "checkpoint_seconds", "gallery", "scenes", "notes", "features", "groups", "weights", "costs", "task", "lends_model",
    "training.replay",
    "source.data", "source.test", "source.store", "source.cache_gib", "source.workers",
    "source.scanners", "source.index", "source.relist",
    "encoder.weights",
)  # fmt: skip


FILES = ("source.data", "source.test", "source.store", "features", "groups", "weights", "costs", "encoder.weights")
"""Fields that name files: the same run wherever they lie, if their content is the same."""
OF_FILES = ("features_sha256", "groups_sha256", "costs_sha256", "weights_sha256")
"""What a run records of files that its config names."""


@dataclass(frozen=True)
class Plan:
    """A run that is wanted: a config, a seed, and the names by which people will find it again."""

    config: Config
    seed: int = 0
    recipe: str = "custom"
    scale: str = "full"
    overrides: Mapping[str, str] = field(default_factory=dict)
    strategy: str = ""
    """How the strategy was asked for; its class name by default."""

    @property
    def strategy_name(self) -> str:
        return self.strategy or type(self.config.strategy).__name__

    @property
    def run_id(self) -> str:
        return run_id(self.recipe, self.scale, self.strategy_name, self.seed, self.overrides)

    def seed_of(self, purpose: str, round: int) -> int:
        """The same for every strategy of a seed, so that rounds with equal labels train equal models."""
        start = self.config.protocol.start_seed
        if start is not None and purpose == "select" and round == 0:
            return stream(start, purpose, round)
        return stream(self.seed, purpose, round)


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


def _at(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    return config


def run_id(recipe: str, scale: str, strategy: str, seed: int, overrides: Mapping[str, str]) -> str:
    """The name of a run: the same command gives the same one. Overrides that can change a result appear as a short hash.

    Of features it counts that there are some, and of weights the file's name, since the files may be moved; other ones are
    refused when a run continues.
    """
    plain = [_plain(recipe), *([_plain(scale)] if scale != "full" else []), _plain(strategy)]
    if found := deciding(overrides):
        plain.append(hashlib.sha256(json.dumps(dict(sorted(found.items()))).encode()).hexdigest()[:8])
    return "-".join([*plain, f"s{seed}"])


def deciding(overrides: Mapping[str, str]) -> dict[str, str]:
    """Those that can change a result. Of features that there are some, of weights the file's name."""
    given = {"features": "given"} if overrides.get("features", "null") != "null" else {}
    for path in ("weights", "encoder.weights"):
        if overrides.get(path, "null") != "null":
            given[path] = Path(overrides[path]).name
    return {path: text for path, text in overrides.items() if path not in WITHOUT_EFFECT} | given


def _plain(name: str) -> str:
    """A name fit for a file: the last part of a dotted path."""
    last = name.rpartition(":")[2]
    return "".join(c if c.isalnum() or c in "_." else "_" for c in last)


def same_recipe(recorded: Mapping[str, Any], config: Config) -> bool:
    """Whether a run's recorded config is this one, files included: as far as it can be told without opening them."""
    whole, now = filled(recorded, config), to_json(config)
    old = {k: v for k, v in decisive(whole).items() if k not in OF_FILES}
    return old == decisive(now) and all(_at(whole, path) == _at(now, path) for path in FILES)


MAY_CHANGE = ("rounds", "total")
"""Of the protocol of a run whose pool people change: how far it goes."""
OF_POOL = ("groups_sha256", "costs_sha256")
"""Of such a run: what files say of the samples that there are."""


def grown(before: RunRecord, now: RunRecord) -> RunRecord:
    """The record as if it had been begun on the data of now, and with as many labels as are wanted now.

    StoreError where a class was taken away or moved.
    """
    if list(now.classes[: len(before.classes)]) != list(before.classes):
        raise StoreError(
            f"the run {now.run_id} was begun with the classes {', '.join(before.classes)}, and these are now "
            f"{', '.join(now.classes)}: classes may be added behind the others, never removed or moved"
        )
    protocol = {**before.config["protocol"], **{name: now.config["protocol"][name] for name in MAY_CHANGE}}
    of_files = {name: now.config[name] for name in OF_POOL if name in now.config}
    config = {**before.config, "protocol": protocol, **of_files}
    return replace(before, data_fingerprint=now.data_fingerprint, config=config)


def refuse_changes(before: RunRecord, now: RunRecord, config: Config, path: Path) -> None:
    """The recorded run is continued as it was begun, or not at all: a StoreError says what differs. path: of the store.

    Fields that came after the record was written had their defaults then.
    """
    old, new = decisive(filled(before.config, config)), decisive(now.config)
    changed = [f"{k}: {old.get(k)!r} -> {new.get(k)!r}" for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
    if changed:
        raise StoreError(
            f"the run {now.run_id} in {path} was begun with another recipe ({'; '.join(changed[:8])}): "
            "take the change back, or give another --out"
        )
    if before.data_fingerprint != now.data_fingerprint:
        raise StoreError(
            f"the run {now.run_id} in {path} was begun on other data ({before.pool_size} samples then, {now.pool_size} now, "
            "or changed files, or other weights of the encoder): restore them, or give another --out"
        )
