"""A Ray cluster of two nodes on this machine, one of which can be killed as if its machine had lost its power."""

import os
import signal
import time
from pathlib import Path
from typing import Any

OBJECTS = 128 << 20
"""Bytes of shared memory of a node."""


class TwoNodes:
    """A head with room for one actor, and a node with room for another and one CPU that a pass leaves free."""

    def __init__(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 1, "object_store_memory": OBJECTS, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.joined: set[int] = set()
        """Raylets of nodes that came after one was killed."""
        self._node: Any = None
        self.whole()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def whole(self) -> None:
        """Two nodes again, none of which counts as one that joined."""
        if self._node is None:
            self._node = self._cluster.add_node(num_cpus=2, object_store_memory=OBJECTS)
        self._cluster.wait_for_nodes()
        self.joined.clear()

    def add(self) -> None:
        """A fresh node."""
        self._node = self._cluster.add_node(num_cpus=2, object_store_memory=OBJECTS)
        self.joined.add(self._raylet())

    def kill(self) -> int:
        """All processes of the node that is not the head, at once. Gives its raylet."""
        raylet = self._raylet()
        others = [each.process.pid for several in self._node.all_processes.values() for each in several]
        doomed = [raylet, *descendants(raylet), *others]
        for pid in doomed:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 10
        while left := [pid for pid in doomed if alive(pid)]:
            if time.monotonic() > end:
                raise RuntimeError(f"processes of a killed node live: {left}")
            time.sleep(0.01)
        self._cluster.remove_node(
            self._node, allow_graceful=False
        )  # of what the cluster believes: nothing lives any more
        self._node = None
        return raylet

    def _raylet(self) -> int:
        return int(self._node.all_processes["raylet"][0].process.pid)

    def __enter__(self) -> "TwoNodes":
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.shutdown()


def alive(pid: int) -> bool:
    """Whether it runs; one that is dead and not yet waited for does not."""
    return (_stat(pid) or "Z")[0] != "Z"


def descendants(pid: int) -> list[int]:
    """Its children, theirs, and so on."""
    parents = {}
    for each in Path("/proc").iterdir():
        if each.name.isdigit() and (stat := _stat(int(each.name))):
            parents[int(each.name)] = int(stat.split()[1])
    found, layer = [], [pid]
    while layer:
        layer = [child for child, parent in parents.items() if parent in layer]
        found += layer
    return found


def _stat(pid: int) -> str:
    """What the system tells of the process, from its state on; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
