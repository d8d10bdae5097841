"""What runs on a cluster's machines: one model, asked for one shard after another. It needs this package there."""

import platform
from dataclasses import dataclass

from mcdal.passes.folder import Folder, LocalFolder
from mcdal.passes.shard_files import write
from mcdal.passes.work import Worker, unpacked
from mcdal.pool.sharded import Shard


@dataclass(frozen=True)
class Sight:
    """Where an actor is, and whether it writes results itself."""

    machine: str
    writes: bool


class Actor:
    """job: as `Job.packed` made it. token: a file that lies in the folder where its machine shares that."""

    def __init__(self, job: bytes, folder: Folder, token: str | None):
        self._worker = Worker(unpacked(job))
        self._folder = folder
        shared = folder.everywhere or (
            token is not None and isinstance(folder, LocalFolder) and (folder.path / token).exists()
        )
        self._sight = Sight(platform.node(), shared)

    def ready(self) -> Sight:
        """When the model is there."""
        return self._sight

    def measure(self, shard: Shard, carried: bytes | None) -> dict[str, bytes] | None:
        """Content by file name, for the driver to write; None where it is written already. carried: see `Worker.measure`."""
        files = self._worker.measure(shard, carried=carried)
        if not self._sight.writes:
            return files
        write(self._folder, files)
        return None
