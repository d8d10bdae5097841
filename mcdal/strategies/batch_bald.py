"""Batch BALD: a small batch whose labels, taken together, say most about the weights."""

from dataclasses import dataclass

from mcdal.checked import at_least
from mcdal.errors import SelectionError
from mcdal.selection.batch_bald import batch_bald
from mcdal.selection.checks import refuse_bad_rows
from mcdal.strategies._by_dropout import ByDropout
from mcdal.strategies.base import About
from mcdal.streams import numpy_generator
from mcdal.uncertainty import mutual_information
from mcdal.values import Batch, Measurement, Picks, Rows

LARGEST_BATCH = 50


@dataclass
class BatchBALD(ByDropout):
    """Kirsch, van Amersfoort and Gal 2019: greedily, the next pick is the x that maximizes

        I(y_1 ... y_n-1, y_x; w) = H(y_1 ... y_n-1, y_x) - sum_i 1/T sum_t H(p_t(x_i))

    under T draws of the weights w by dropout, the same draws for all x. The joint entropy H is exact while there are at most
    `combinations` combinations of labels of the picks so far, then a mean over as many drawn ones. vector: the T x C numbers
    p_t(y | x). score: BALD, where each row stands alone; a pick's own score is its gain, I(y_x; w | y_1 ... y_n-1), in nats.
    """

    about = About(
        paper="Kirsch, van Amersfoort and Gal 2019, *BatchBALD*",
        needs=("features", "model"),
        cost="the head T times on the same features; for each pick up to N x T x C x `combinations` products: minutes",
        memory="T x C probabilities a sample, 200 MB for 50,000 samples of 10 classes",
        use="a few labels at a time, up to 50, with few classes",
        avoid="more than 50 picks a round, which are refused (take power_bald); its task model is trained with dropout",
    )

    passes: int = 100
    """T, the number of draws of the weights: all picks of a round together gain at most log T nats."""
    combinations: int = 10_000
    """Combinations of labels of the picks so far: all of them while there are no more, then this many drawn ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "strategy", 1, "combinations")

    def measure(self, batch: Batch) -> Measurement:
        p = self.draws(batch)
        return Measurement(score=mutual_information(p), vector=p.transpose(0, 1).flatten(1))

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        refuse_bad_rows(rows)
        budget = min(budget, int((~rows.labeled).sum()))
        if budget > LARGEST_BATCH:
            raise SelectionError(
                f"batch_bald picks at most {LARGEST_BATCH} samples a round, and {budget} were asked for: its joint entropies "
                "cannot be estimated for more. Use power_bald instead"
            )
        return batch_bald(rows, budget, self.passes, self.combinations, numpy_generator(seed, "batch_bald"))
