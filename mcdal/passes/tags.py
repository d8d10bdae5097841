"""What a measured shard depends on, as texts that its file carries: a file whose texts differ is stale."""

import dataclasses
import hashlib
import inspect
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mcdal.device import Numerics
from mcdal.models.base import Model
from mcdal.pool.sharded import Shard
from mcdal.strategies.base import Strategy
from mcdal.version import __version__

Tags = Mapping[str, str]
FORMAT = "1"
PLAIN = (bool, int, float, str, type(None))


def common_tags(
    model: Model, strategy: Strategy, numerics: Numerics, seed: int, window: tuple[int, int] | None, kept: str
) -> dict[str, str]:
    """Of every shard of a pass. Neither batch size nor number of workers nor labels are here: no row depends on them."""
    return {
        "format": FORMAT,
        "mcdal": __version__,
        "strategy": type(strategy).__name__,
        "measured_by": identity(model, strategy, numerics.dtype),
        "numerics": f"{numerics.device.type} {numerics.precision}",
        "seed": str(seed),
        "window": str(window),
        "kept": kept,
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


def identity(model: Model, strategy: Strategy, dtype: torch.dtype = torch.float32) -> str:
    """A digest of the model's weights and of the strategy: its fields, networks and seeds, and the code of people's own classes.

    dtype: that of the weights when they measure, so that a model is the same before and after it is placed.

    Optimizers and what a strategy remembers of its last steps, in tensors and lists, are left out: the same before and after a
    pass.
    """
    sha = hashlib.sha256()
    _feed_class(sha, type(model))
    sha.update(re.sub(r"0x[0-9a-f]+", "", repr(model)).encode())
    _feed_state(sha, model.state_dict(), dtype)
    _feed_class(sha, type(strategy))
    sha.update(repr(sorted(_plain(strategy))).encode())
    for name, part in sorted(strategy.state().items()):
        if not isinstance(part, torch.optim.Optimizer):
            sha.update(name.encode())
            _feed_state(sha, part.state_dict(), dtype)
    return sha.hexdigest()[:24]


def _feed_state(sha: "hashlib._Hash", state: Mapping[str, Any], dtype: torch.dtype) -> None:
    for name, value in state.items():
        if isinstance(value, Tensor):
            plain = value.detach().cpu().to(dtype if value.is_floating_point() else value.dtype).contiguous()
            sha.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
            sha.update(plain.reshape(-1).view(torch.uint8).numpy().data)
        elif isinstance(value, Mapping):
            sha.update(name.encode())
            _feed_state(sha, value, dtype)
        else:
            sha.update(f"{name} {value!r}".encode())


def _feed_class(sha: "hashlib._Hash", kind: type) -> None:
    """Its name; of somebody's own, which may be edited between two passes, the source as well."""
    for base in kind.__mro__:
        sha.update(base.__qualname__.encode())
        if base.__module__.split(".")[0] not in ("mcdal", "builtins", "torch", "abc", "typing"):
            try:
                sha.update(inspect.getsource(base).encode())
            except (OSError, TypeError):  # typed into a session: there is no file to read
                continue


def _plain(part: object, path: str = "", depth: int = 3) -> list[tuple[str, str]]:
    """Numbers and texts that an object holds, and those that its parts hold.

    Not those of parts that a dataclass fills by itself: how the last choice went is kept there.
    """
    filled = {f.name for f in dataclasses.fields(part) if not f.init} if dataclasses.is_dataclass(part) else set()
    found: list[tuple[str, str]] = []
    for name, value in vars(part).items():
        if isinstance(value, PLAIN) or (isinstance(value, tuple) and all(isinstance(v, PLAIN) for v in value)):
            found.append((path + name, repr(value)))
        elif depth and name not in filled and hasattr(value, "__dict__") and not callable(value):
            found += _plain(value, f"{path}{name}.", depth - 1)
    return found
