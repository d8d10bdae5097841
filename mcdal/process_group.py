"""Torch's process group: of processes of one machine, or of several machines."""

import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

if TYPE_CHECKING:  # a torch without torch.distributed has none
    from torch._C._distributed_c10d import Store, TCPStore

TIMEOUT = timedelta(minutes=10)
"""So long a process waits for another one that lives: reading a batch may take its time."""
TIME_TO_JOIN = timedelta(seconds=30)
"""So long processes wait for each other to join, when all have said that they are here."""


@contextmanager
def group(
    folder: Path, rank: int, count: int, device: torch.device, here: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Torch's default process group of this machine's processes that are given the same new folder. Nothing listens outside.

    here: called when this process is about to join. From then on nobody can be woken until all have joined, so that rank 0
    should wait in it until all others have called theirs.
    """
    here()
    with _over(_loopback(), "GLOO_SOCKET_IFNAME"), _group(rank, count, device, f"file://{folder / 'store'}"):
        yield


@contextmanager
def group_of_machines(address: str, store: "Store", rank: int, count: int, device: torch.device) -> Iterator[None]:
    """The same of processes that may be on several machines. address: of this one, as the others reach it."""
    with _over(interface_of(address), "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), _group(rank, count, device, store):
        yield


def open_store(address: str) -> "TCPStore":
    """Where the ranks of a group meet, at a free port of this machine, which is rank 0's."""
    return _store()(address, 0, is_master=True, wait_for_workers=False, timeout=TIME_TO_JOIN)


def _store() -> "type[TCPStore]":
    kind: type[TCPStore] = dist.TCPStore  # type: ignore[attr-defined]
    return kind


def reach_store(address: str, port: int) -> "TCPStore":
    """What rank 0 has opened there, for the others."""
    return _store()(address, port, is_master=False, timeout=TIME_TO_JOIN)


@contextmanager
def _group(rank: int, count: int, device: torch.device, where: "str | Store") -> Iterator[None]:
    cuda = device.type == "cuda"
    hook = sys.excepthook  # torch puts one of its own before it, each time
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            init_method=where if isinstance(where, str) else None,
            store=None if isinstance(where, str) else where,
            rank=rank,
            world_size=count,
            timeout=TIME_TO_JOIN,
            device_id=device if cuda else None,
        )
    except BaseException:
        # As `destroy_process_group` does, which is for groups that were made: the next one has to have its name again.
        dist.distributed_c10d._world.group_count = 0
        raise
    try:
        _set_timeout(TIMEOUT)
        yield
    except BaseException:
        abort()
        raise
    finally:
        dist.destroy_process_group()
        sys.excepthook = hook


def in_group() -> bool:
    """Whether somebody has made torch's default process group in this process, if of it alone."""
    return dist.is_available() and dist.is_initialized()


def _set_timeout(timeout: timedelta) -> None:
    """Of the group from here on."""
    told = getattr(dist, "set_timeout", None)  # its name before PyTorch 2.14 has an underscore
    (told or dist.distributed_c10d._set_pg_timeout)(timeout, dist.group.WORLD)


def abort() -> None:
    """Ends what this process waits for in the group."""
    pg = dist.group.WORLD
    if pg is not None and "nccl" in str(dist.get_backend_config()):
        with suppress(RuntimeError):
            pg.abort()


def lost(error: BaseException) -> bool:
    """Whether an error may only say that another process has gone."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in text for word in ("gloo", "nccl", "connection", "timed out"))
    )


def _loopback() -> str | None:
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")] if os.name == "posix" else []
    return names[0] if names else None


def interface_of(address: str) -> str | None:
    """The network interface of this machine that has this IPv4 address; None where that cannot be told (Linux tells)."""
    if sys.platform != "linux":
        return None
    import fcntl

    asked = 0x8915  # SIOCGIFADDR
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as told:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # one without an address
                found = fcntl.ioctl(told.fileno(), asked, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(found[20:24]) == address:
                    return name
    return None


@contextmanager
def _over(interface: str | None, *variables: str) -> Iterator[None]:
    """gloo (and NCCL) would otherwise look for an address, gloo under the machine's name. What somebody has set stays."""
    mine = [name for name in variables if name not in os.environ] if interface is not None else []
    os.environ |= dict.fromkeys(mine, interface or "")
    try:
        yield
    finally:
        for name in mine:
            del os.environ[name]
