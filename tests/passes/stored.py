"""Files as a pass leaves them, of scores that nobody measured."""

import numpy as np

from mcdal.passes.folder import folder_of
from mcdal.passes.measured import Measured
from mcdal.passes.shard_files import encoded, look, write
from mcdal.passes.tags import tags_of
from mcdal.pool.sharded import Shard
from mcdal.values import Rows


def stored(folder, ids, score, sizes, vector=None, kept="float16", quarantined=()):
    """As a pass over shards of these sizes would leave them."""
    place, shards, found, first = folder_of(folder), [], [], 0
    for number, size in enumerate(sizes):
        here = slice(first, first + size)
        shard = Shard(f"part/{number}", size, "")
        rows = Rows(
            tuple(ids[here]), np.zeros(size, dtype=bool), None if score is None else score[here],
            None if vector is None else vector[here],
        )  # fmt: skip
        write(place, encoded(rows, quarantined, tags_of(shard, {}), kept))
        shards.append(shard)
        found.append(look(place, shard.name))
        first += size
    assert first == len(ids)
    return Measured(place, tuple(shards), tuple(found))
