"""Measures with several strategies in one other process, as a worker would: run as a program by test_contract.py."""

import pickle
import sys
from pathlib import Path

from mcdal.passes.folder import folder_of
from mcdal.passes.shard_files import write
from mcdal.passes.work import Worker, unpacked


def main() -> None:
    """Standard input: pairs of a job's file and its folder, one a line."""
    for line in sys.stdin:
        job, folder = line.split()
        work = unpacked(Path(job).read_bytes())
        worker = Worker(work)
        for shard in work.sharded.shards:
            write(folder_of(folder), worker.measure(shard))


def kept(content: bytes) -> bytes:
    """The networks of a packed job alone."""
    return pickle.loads(content)[1]


if __name__ == "__main__":
    main()
