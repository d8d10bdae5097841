"""Shard after shard in this process."""

from collections.abc import Sequence

from mcdal.passes.engine import Engine, Tries
from mcdal.passes.folder import Folder
from mcdal.passes.progress import Progress
from mcdal.passes.shard_files import write
from mcdal.passes.work import Job, Worker
from mcdal.pool.sharded import Shard

NAME = "here"


class Here(Engine):
    """With the caller's own model, as `mcdal.measuring.measure` does."""

    def measure(self, job: Job, folder: Folder, shards: Sequence[Shard], progress: Progress) -> None:
        if not shards:
            return
        worker, tries = Worker(job), Tries()

        def hear(_kind: str, **fields: int) -> None:
            progress.advanced(NAME, fields["done"])

        for shard in shards:
            files = None
            while files is None:
                progress.began(NAME)
                try:
                    files = worker.measure(shard, hear)
                except BrokenPipeError:  # whoever listens has gone
                    raise
                except OSError as error:  # a shared disk, the network
                    progress.lost(NAME)
                    progress.notice(tries.again(shard, f"{type(error).__name__}: {error}"))
            write(folder, files)
            progress.finished(NAME, shard)
