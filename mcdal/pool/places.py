"""Where the ids of a pool stand. A run asks for the same ones again and again, with some new ones at their end."""

import operator
from collections.abc import Mapping
from itertools import islice, repeat

import numpy as np
from jaxtyping import Int

from mcdal.values import Ids

Positions = Int[np.ndarray, " _"]


class Places:
    """The position of each id.

    Looking up half a million of a million ids takes half a second: neither lies in the processor's cache. Labels of a run are
    remembered in the order in which they came, so a mapping begins with the very strings that were looked up last; that they
    are the same objects is seen in a fiftieth of the time, and where they are not, all are looked up.
    """

    def __init__(self, ids: Ids):
        self._of = {id: i for i, id in enumerate(ids)}
        self._last: tuple[Ids, Positions] = (), np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._of)

    def __getitem__(self, id: str) -> int:
        return self._of[id]

    def of(self, labels: Mapping[str, int]) -> Positions:
        """Of all ids of `labels`, in their order; -1 of those that are not in the pool. Not to be written to."""
        known, found = self._last
        if not all(map(operator.is_, known, labels)):
            known, found = (), found[:0]
        if len(labels) <= len(known):
            return found[: len(labels)]
        new = map(self._of.get, islice(labels, len(known), None), repeat(-1))
        found = np.concatenate([found, np.fromiter(new, dtype=np.int64, count=len(labels) - len(known))])
        self._last = tuple(labels), found
        return found
