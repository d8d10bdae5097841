"""A held-out share of a pool, the same on every machine: which images test a model and can never be picked."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from mcdal.errors import PoolError
from mcdal.streams import stream
from mcdal.values import Ids


def stratified(
    ids: Ids, targets: Sequence[int] | Int[np.ndarray, " n"], share: float, seed: int
) -> tuple[Int[np.ndarray, " pool"], Int[np.ndarray, " test"]]:
    """Positions of the pool and of the test images, each in the order of `ids`; `share` of every class is held out.

    Each id draws its own number, so neither the order of the images nor numpy's version matters. A class keeps at least
    one image in the pool and, if it has two, at least one for the test.
    """
    if not 0 < share < 1:
        raise PoolError(f"the held-out share is {share}: give a number between 0 and 1, such as 0.2")
    members: dict[int, list[int]] = defaultdict(list)
    for position, target in enumerate(targets):
        members[int(target)].append(position)
    held_out = np.zeros(len(ids), dtype=bool)
    for positions in members.values():
        count = min(max(1, round(share * len(positions))), len(positions) - 1)
        drawn = sorted(positions, key=lambda position: (stream(seed, "held out", ids[position]), ids[position]))
        held_out[drawn[:count]] = True
    if not held_out.any():
        raise PoolError("no class has two images, so none can be held out for the test: add images or a test folder")
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
