"""How many actors a Ray cluster can hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Room:
    """actors: how many fit beside one CPU that stays free for what else Ray runs. asked, nodes: for a message."""

    actors: int
    asked: str
    nodes: str


def room(nodes: Sequence[Mapping[str, Any]], cpus: float, gpus: float) -> Room:
    """nodes: as `ray.nodes()` tells. By what they have, not by what is free just now.

    One CPU is left, as calls that wait for a CPU which no actor gives back wait for ever, and say nothing.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    fit = sum(_fitting(each, cpus, gpus) for each in alive)
    if cpus > 0:
        fit = min(fit, int((sum(each.get("CPU", 0.0) for each in alive) - 1 + 1e-9) // cpus))
    has = "; ".join(f"{each.get('CPU', 0):g} CPUs and {each.get('GPU', 0):g} GPUs" for each in alive)
    asked = f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
    return Room(max(0, fit), asked, f"its nodes have {has}" if has else "it has no node")


def _fitting(resources: Mapping[str, float], cpus: float, gpus: float) -> int:
    counts = [
        int((resources.get(name, 0.0) + 1e-9) // each) for name, each in (("CPU", cpus), ("GPU", gpus)) if each > 0
    ]
    return min(counts) if counts else 1
