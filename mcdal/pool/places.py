"""Where the ids of a pool stand. A run asks for the same ones again and again, with some new ones at their end."""

import operator
from collections.abc import Collection, Mapping
from itertools import islice, repeat

import numpy as np
from jaxtyping import Int

from mcdal.ids import MappedIds
from mcdal.values import Ids

Positions = Int[np.ndarray, " _"]


class Places:
    """The position of each id.

    Looking up half a million of a million ids takes half a second: neither lies in the processor's cache. Labels of a run are
    remembered in the order in which they came, so a mapping begins with the very strings that were looked up last; that they
    are the same objects is seen in a fiftieth of the time, and where they are not, all are looked up.

    Ids that lie on the disk have their own table there, in which distinct ones were made sure of.
    """

    def __init__(self, ids: Ids):
        self._mapped = ids if isinstance(ids, MappedIds) else None
        self._of = {} if self._mapped is not None else {id: i for i, id in enumerate(ids)}
        self._last: tuple[tuple[str, ...], Positions] = (), np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._of) if self._mapped is None else len(self._mapped)

    def __getitem__(self, id: str) -> int:
        return self._of[id] if self._mapped is None else self._mapped.index(id)

    def has(self, ids: Collection[str]) -> set[str]:
        """Those of these ids that are here."""
        if self._mapped is None:
            return {id for id in ids if id in self._of}
        wanted = list(ids)
        return {id for id, place in zip(wanted, self._mapped.positions(wanted).tolist(), strict=True) if place >= 0}

    def of(self, labels: Mapping[str, int]) -> Positions:
        """Of all ids of `labels`, in their order; -1 of those that are not in the pool. Not to be written to."""
        known, found = self._last
        if not all(map(operator.is_, known, labels)):
            known, found = (), found[:0]
        if len(labels) <= len(known):
            return found[: len(labels)]
        found = np.concatenate([found, self._look_up(labels, len(known))])
        self._last = tuple(labels), found
        return found

    def _look_up(self, labels: Mapping[str, int], first: int) -> Positions:
        """Those from number `first` on."""
        if self._mapped is not None:
            return self._mapped.positions(list(islice(labels, first, None)))
        new = map(self._of.get, islice(labels, first, None), repeat(-1))
        return np.fromiter(new, dtype=np.int64, count=len(labels) - first)
