"""Random: every unlabeled sample is equally likely. The row that every comparison needs."""

from dataclasses import dataclass

from mcdal.selection import at_random
from mcdal.strategies.base import Strategy
from mcdal.values import Picks, Rows


@dataclass
class Random(Strategy):
    """Uniform without replacement. It looks at no image, so no pass over the pool is made."""

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        return at_random(rows.unlabeled().ids, budget, seed)
