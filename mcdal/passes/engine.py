"""Who measures the shards: this process, several of this machine, or a cluster."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence

from mcdal.errors import StoreError
from mcdal.passes.folder import Folder
from mcdal.passes.progress import Progress
from mcdal.passes.work import Job
from mcdal.pool.sharded import Shard

TRIES = 3
"""Times that a shard is begun before the pass stops at it."""


class Engine(ABC):
    """Measures each of the shards and sees to it that its files are in the folder. One that raises leaves whole files."""

    @abstractmethod
    def measure(self, job: Job, folder: Folder, shards: Sequence[Shard], progress: Progress) -> None: ...


class Tries:
    """Counts what went wrong with each shard."""

    def __init__(self) -> None:
        self._failed: Counter[str] = Counter()

    def again(self, shard: Shard, why: str) -> str:
        """A sentence on a shard that is measured again; StoreError when it has failed too often."""
        self._failed[shard.name] += 1
        if self._failed[shard.name] >= TRIES:
            raise StoreError(
                f"the shard {shard.name!r} failed {TRIES} times, the last time: {why}; what was measured before is kept: mend "
                "it, then run the same command again"
            )
        return f"the shard {shard.name} is measured again: {why}"
