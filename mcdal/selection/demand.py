"""What a choice needs in memory and multiplications, by the size of what it is made from."""

from dataclasses import dataclass, replace

import numpy as np

from mcdal.values import Rows

GIB = 2**30
NOMINAL = 25e9
"""Multiplications that one core does a second, by which minutes are counted: the same on every machine, so that the same data
are chosen from in the same way."""


@dataclass(frozen=True)
class Size:
    """A choice of `budget` from n rows, `labeled` of them with a label, each of d numbers and c class probabilities (or 0)."""

    n: int
    labeled: int
    budget: int
    d: int
    c: int

    @staticmethod
    def of(rows: Rows, budget: int) -> "Size":
        d, c = (0 if table is None else table.shape[1] for table in (rows.vector, rows.probabilities))
        labeled = int(np.count_nonzero(rows.labeled))
        return Size(len(rows.ids), labeled, min(budget, len(rows.ids) - labeled), d, c)

    @property
    def free(self) -> int:
        """Rows that may be picked."""
        return self.n - self.labeled

    def of_rows(self, n: int) -> "Size":
        """The same from n of these rows, of which at most half are labeled ones."""
        labeled = min(self.labeled, n // 2)
        return replace(self, n=n, labeled=labeled, budget=min(self.budget, n - labeled))


@dataclass(frozen=True)
class Demand:
    """bytes: at once, beyond rows that lie on the disk. products: multiplications."""

    bytes: float
    products: float

    @property
    def gib(self) -> float:
        return self.bytes / GIB

    @property
    def minutes(self) -> float:
        """Of a core of nominal speed."""
        return self.products / NOMINAL / 60

    def times(self, count: int) -> "Demand":
        """So often, one after the other."""
        return Demand(self.bytes, count * self.products)
