"""What a measured shard depends on, as texts that its file carries: a file whose texts differ is stale."""

import dataclasses
import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import nn

from mcdal.device import Numerics
from mcdal.errors import ConfigError
from mcdal.models.base import Model
from mcdal.passes.digest import Digest, UnknownError
from mcdal.pool.sharded import Shard
from mcdal.strategies.base import Strategy
from mcdal.version import __version__

Tags = Mapping[str, str]
FORMAT = "2"


def common_tags(
    model: Model,
    strategy: Strategy,
    numerics: Numerics,
    seed: int,
    window: tuple[int, int] | None,
    kept: str,
    about: Tags,
) -> dict[str, str]:
    """Of every shard of a pass. Neither batch size nor number of workers nor labels are here: no row depends on them.

    about: more that they depend on; what has the name of a field of the strategy speaks for that field.
    """
    return {
        "format": FORMAT,
        "mcdal": __version__,
        "strategy": type(strategy).__name__,
        "measured_by": identity(model, strategy, numerics.dtype, about),
        "numerics": f"{numerics.device.type} {numerics.precision}",
        "seed": str(seed),
        "window": str(window),
        "kept": kept,
        **about,
    }


def tags_of(shard: Shard, common: Tags) -> dict[str, str]:
    """Of one shard."""
    return {**common, "shard": shard.name, "stamp": shard.stamp, "size": str(shard.size)}


def key_of(tags: Tags) -> str:
    """A short name for these tags."""
    return hashlib.sha256(repr(sorted(tags.items())).encode()).hexdigest()[:12]


def differing(kept: Tags, wanted: Tags) -> list[str]:
    """Names of the tags that differ."""
    return sorted(name for name in {*kept, *wanted} if kept.get(name) != wanted.get(name))


def identity(
    model: Model, strategy: Strategy, dtype: torch.dtype = torch.float32, told: Collection[str] = frozenset()
) -> str:
    """A digest of the model and of the strategy: weights, fields, networks and seeds, and the code of people's own classes.

    dtype: that of the weights when they measure, so that a model is the same before and after it is placed. told: fields of the
    strategy that are told otherwise.

    Of a strategy only what it is given, its networks and its `seeds` count: the same after training, after a training that was
    continued, and after a pass. ConfigError names the field that nobody can compare.
    """
    digest = Digest(dtype)
    digest.module(model)
    digest.kind(type(strategy))
    for name, value in sorted(_given(strategy).items()):
        if name in told:
            continue
        digest.say(name)
        try:
            digest.value(value)
        except UnknownError as error:
            raise ConfigError(
                f"strategy.{name} holds {error}, of which nobody can tell whether it is the same the next time: give numbers, "
                f"texts, tensors, functions or networks, or say what it is with about={{{name!r}: ...}}"
            ) from error
    for name, part in sorted(strategy.state().items()):
        if isinstance(part, nn.Module):
            digest.say(name)
            digest.module(part)
        elif not isinstance(part, torch.optim.Optimizer):
            digest.say(name)
            digest.state(part.state_dict())
    digest.say(*sorted(strategy.seeds().items()))
    return digest.text()


def _given(strategy: Strategy) -> dict[str, object]:
    """Its fields, and what is set beside them under a public name; not what it fills in by itself, such as its last losses."""
    described: tuple[dataclasses.Field[Any], ...] = (
        dataclasses.fields(strategy) if dataclasses.is_dataclass(strategy) else ()
    )
    fields = {f.name for f in described}
    found = {f.name: getattr(strategy, f.name) for f in described if f.init}
    return found | {n: v for n, v in vars(strategy).items() if n not in fields and not n.startswith("_")}
