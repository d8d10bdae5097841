"""Torch's process group of processes of one machine."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

TIMEOUT = timedelta(minutes=10)
"""So long a process waits for another one that lives: reading a batch may take its time."""


@contextmanager
def group(folder: Path, rank: int, count: int, device: torch.device) -> Iterator[None]:
    """Torch's default process group of this machine's processes that are given the same new folder. Nothing listens outside."""
    cuda = device.type == "cuda"
    with _over_loopback():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            init_method=f"file://{folder / 'store'}",
            rank=rank,
            world_size=count,
            timeout=TIMEOUT,
            device_id=device if cuda else None,
        )
    try:
        yield
    except BaseException:
        abort()
        raise
    finally:
        dist.destroy_process_group()


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
