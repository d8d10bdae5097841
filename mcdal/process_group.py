"""Torch's process group of processes of one machine."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

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
    cuda = device.type == "cuda"
    here()
    hook = sys.excepthook  # torch puts one of its own before it, each time
    try:
        with _over_loopback():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if cuda else "gloo",
                init_method=f"file://{folder / 'store'}",
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


@contextmanager
def _over_loopback() -> Iterator[None]:
    """gloo would otherwise look for an address under the machine's name."""
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")] if os.name == "posix" else []
    if "GLOO_SOCKET_IFNAME" in os.environ or not names:
        yield
        return
    os.environ["GLOO_SOCKET_IFNAME"] = names[0]
    try:
        yield
    finally:
        del os.environ["GLOO_SOCKET_IFNAME"]
