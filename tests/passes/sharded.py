"""A pool in shards for tests that kill: each shard says when it is opened, and may wait or misbehave."""

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

from mcdal.pool.base import Pool
from mcdal.testing import FakeSharded, fake_pool


def forty():
    return fake_pool(40)


@dataclass(frozen=True)
class Watched(FakeSharded):
    """log: a line "shard pid" for every opening. seconds: that an opening takes. deadly: the shard whose reader is killed.

    hanging: the shard whose first reader sleeps. torn: the one whose first reader is killed while it writes what it measured.
    near: whether shards can be opened without what `carrying` brings.
    """

    log: str = ""
    seconds: float = 0.0
    deadly: str = ""
    failing: str = ""
    hanging: str = ""
    torn: str = ""
    near: bool = True
    brought: tuple[str, ...] = ()

    def pool(self, shard):
        with Path(self.log).open("a") as log:
            log.write(f"{shard.name} {os.getpid()}\n")
        if shard.name == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if shard.name == self.failing:
            raise OSError("the network is down")
        first = Path(self.log).read_text().count(f"{shard.name} ") == 1
        if shard.name == self.hanging and first:
            time.sleep(600)
        if shard.name == self.torn and first:
            os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        assert self.near or shard.name in self.brought
        time.sleep(self.seconds)
        found: Pool = super().pool(shard)
        return found

    @property
    def everywhere(self):
        return self.near

    def reaches(self, shard):
        return self.near

    def carrying(self, shards):
        return replace(self, brought=tuple(shard.name for shard in shards))


def watched(folder, **more):
    return Watched(forty, 5, log=str(folder / "log.txt"), **more)


def opened(folder):
    """Shard and process of each opening."""
    log = folder / "log.txt"
    lines = log.read_text().splitlines() if log.exists() else []
    return [(name, int(pid)) for name, pid in map(str.split, lines)]


def wait_until(what, seconds=60.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it does not come to pass"
        time.sleep(0.02)
