"""A Ray cluster: how to reach it, and how many workers fit on it."""

import io
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from mcdal.errors import ConfigError

OBJECTS = 256 << 20
"""Bytes for Ray's shared memory in a cluster that is started here, beside what is known to travel."""


def imported_ray(what: str) -> Any:
    """The module. ConfigError where it is not installed; what: that needs it."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError(f"{what} needs ray: pip install 'mcdal[ray]'") from error
    return ray


@contextmanager
def connected(ray: Any, address: str | None, init: Mapping[str, Any], objects: int = 0) -> Iterator[None]:
    """A connection to the cluster; one that was there before stays. ConfigError where there is none at the address.

    address: "auto", ray://host:port or "local"; None takes RAY_ADDRESS or this machine's cluster, and starts one where there is
    none. init: more for `ray.init`. objects: bytes that travel through shared memory.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"log_to_driver": False, **init}
    try:
        if address == "local":
            _start(ray, quiet, objects)
        else:
            ray.init(**{"address": address or "auto", **quiet})
    except ConnectionError as error:
        if address is not None:
            raise ConfigError(f"there is no Ray cluster at {address}: {error}") from error
        _start(ray, quiet, objects)
    try:
        with redirect_stdout(_Aside(sys.stdout)):
            yield
    finally:
        ray.shutdown()


class _Aside(io.TextIOBase):
    """Standard output, but for what threads of Ray print whatever they were told: among results it would be none."""

    def __init__(self, out: Any):
        self._out = out

    def _for_me(self) -> Any:
        return sys.stderr if threading.current_thread().name.startswith("ray_") else self._out

    def write(self, text: str) -> int:
        return int(self._for_me().write(text))

    def flush(self) -> None:
        self._for_me().flush()

    def isatty(self) -> bool:
        return bool(self._out.isatty())

    def fileno(self) -> int:
        return int(self._out.fileno())


def _start(ray: Any, options: Mapping[str, Any], objects: int) -> None:
    """A cluster of this machine alone."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = {"address": "local", "include_dashboard": False, "object_store_memory": OBJECTS + objects}
    ray.init(**{**own, **options})


@dataclass(frozen=True)
class Room:
    """workers: how many fit. asked, nodes: for a message."""

    workers: int
    asked: str
    nodes: str


def room(nodes: Sequence[Mapping[str, Any]], cpus: float, gpus: float, kept_free: float = 0.0) -> Room:
    """nodes: as `ray.nodes()` tells. By what they have, not by what is free just now. kept_free: CPUs of the whole cluster."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    fit = sum(_fitting(each, cpus, gpus) for each in alive)
    if cpus > 0:
        fit = min(fit, int((sum(each.get("CPU", 0.0) for each in alive) - kept_free + 1e-9) // cpus))
    has = "; ".join(f"{each.get('CPU', 0):g} CPUs and {each.get('GPU', 0):g} GPUs" for each in alive)
    asked = f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
    return Room(max(0, fit), asked, f"its nodes have {has}" if has else "it has no node")


def _fitting(resources: Mapping[str, float], cpus: float, gpus: float) -> int:
    counts = [
        int((resources.get(name, 0.0) + 1e-9) // each) for name, each in (("CPU", cpus), ("GPU", gpus)) if each > 0
    ]
    return min(counts) if counts else 1


def first_line(error: BaseException) -> str:
    """Ray's errors tell a page; the first line is what happened."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
