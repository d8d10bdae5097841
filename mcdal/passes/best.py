"""The largest of a stream: memory for what was asked for and what has come since it was last looked through."""

import numpy as np
from jaxtyping import Float, Shaped

from mcdal.errors import SelectionError
from mcdal.selection.top import top
from mcdal.values import Picks

AT_LEAST = 65_536
"""Rows that are gathered before they are looked through."""


class Best:
    """The `budget` rows with the largest keys, ties by id."""

    def __init__(self, budget: int):
        self.bound = -np.inf
        """Rows with a smaller key need not be given any more."""
        self._budget = budget
        self._ids: list[str] = []
        self._columns: list[tuple[np.ndarray, np.ndarray]] = []  # key, score

    def add(self, ids: list[str], key: Shaped[np.ndarray, " n"], score: Shaped[np.ndarray, " n"]) -> None:
        """score: what a pick is told to have; the key itself, or what it was made of."""
        if not len(ids):
            return
        self._ids += ids
        self._columns.append((key, score))
        if len(self._ids) >= self._budget + max(self._budget, AT_LEAST):
            self._look_through()

    def picks(self) -> Picks:
        """The largest first. SelectionError where an id stands for two samples."""
        score = self._look_through()[1]
        seen: set[str] = set()
        for id in self._ids:
            if id in seen:
                raise SelectionError(
                    f"the id {id!r} stands for two samples, in two shards or in one; ids must be unique"
                )
            seen.add(id)
        return Picks(tuple(self._ids), score.astype(np.float64))

    def _look_through(self) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
        if not self._ids:
            return np.empty(0), np.empty(0)
        key, score = (np.concatenate(column) for column in zip(*self._columns, strict=True))
        places = top(self._ids, key, self._budget).places
        assert places is not None
        self._ids = [self._ids[i] for i in places.tolist()]
        key, score = key[places], score[places]
        self._columns = [(key, score)]
        if len(self._ids) == self._budget:
            self.bound = key[-1]
        return key, score
