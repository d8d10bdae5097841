"""Random: every unlabeled sample is equally likely. The row that every comparison needs."""

from dataclasses import dataclass

from mcdal.selection import at_random
from mcdal.strategies.base import BOTH, About, Strategy
from mcdal.values import Picks, Rows


@dataclass
class Random(Strategy):
    """Uniform without replacement. It looks at no image, so no pass over the pool is made."""

    about = About(
        paper="the control arm",
        needs=(),
        cost="none, and no pass over the pool",
        memory="one number a sample",
        use="always, as the row that the others are measured by; the safest choice for the first labels",
        avoid="as the only strategy, once there are some hundred labels",
        tasks=BOTH,
    )

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        return at_random(rows.ids, budget, seed, rows.free())
