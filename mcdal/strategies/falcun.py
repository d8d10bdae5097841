"""FALCUN: sample where the two most likely classes are close and the probabilities unlike those picked before."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mcdal.checked import at_least
from mcdal.selection.checks import refuse_bad_rows
from mcdal.selection.clusters import by_id
from mcdal.selection.k_center import chunks
from mcdal.stack import Matrix, taken
from mcdal.strategies.base import About, Strategy
from mcdal.streams import numpy_generator
from mcdal.uncertainty import margin
from mcdal.values import Batch, Measurement, Picks, Rows


@dataclass
class Falcun(Strategy):
    """Gilhuber et al. 2024. With u(x) = 1 - (p_(1) - p_(2)) and d(x) = u(x) at first, b times:

        r(x) = u(x) + (d(x) - min d) / (max d - min d)      over what is not yet picked
        draw x_q with probability in proportion to r^gamma
        d(x) = min(d(x), ||p(x) - p(x_q)||_1)

    Rows that are all equally certain and equal to picks are drawn uniformly. `score` is r at the time of the pick.
    """

    about = About(
        paper="Gilhuber et al. 2024, *FALCUN: A Simple and Efficient Deep Active Learning Strategy*",
        needs=("probabilities",),
        cost="O(b N C), no features: seconds",
        memory="a few numbers a sample",
        use="large batches where BADGE is too slow",
        avoid="the first labels of a pool, when the model's probabilities mean little",
    )

    gamma: float = 10.0
    """How sharply the lot follows r: 0 is Random."""

    def __post_init__(self) -> None:
        at_least(self, "strategy", 0, "gamma")

    def measure(self, batch: Batch) -> Measurement:
        assert batch.output is not None
        return Measurement(score=margin(batch.output.logits), probabilities=batch.output.logits.softmax(1))

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        assert rows.score is not None and rows.probabilities is not None
        refuse_bad_rows(rows)
        order = by_id(rows.ids, np.flatnonzero(~rows.labeled))
        u, p = rows.score[order].astype(np.float64), taken(rows.probabilities, order)
        draws = numpy_generator(seed, "falcun").random(min(budget, len(order)))
        picks, score = falcun(u, p, draws, self.gamma)
        return Picks(tuple(rows.ids[order[i]] for i in picks), np.array(score, dtype=np.float64))


def falcun(
    u: Float[np.ndarray, " n"], p: Float[Matrix, "n c"], draws: Float[np.ndarray, " b"], gamma: float
) -> tuple[list[int], list[float]]:
    """Positions of the picks and r of each; one uniform number of `draws` a pick."""
    d, free = u.copy(), np.ones(len(u), dtype=bool)
    picks: list[int] = []
    scores: list[float] = []
    for number in draws:
        r = _relevance(u, d, free)
        pick = _drawn(r, free, gamma, float(number))
        picks.append(pick)
        scores.append(float(r[pick]))
        free[pick] = False
        for where in chunks(len(p)):
            gap = np.abs(p[where].astype(np.float64) - p[pick].astype(np.float64)).sum(1)
            np.minimum(d[where], gap, out=d[where])
    return picks, scores


def _relevance(u: Float[np.ndarray, " n"], d: Float[np.ndarray, " n"], free: np.ndarray) -> Float[np.ndarray, " n"]:
    low, high = d[free].min(), d[free].max()
    scaled: Float[np.ndarray, " n"] = (d - low) / (high - low if high > low else 1.0)
    return np.where(free, u + scaled, 0.0)


def _drawn(r: Float[np.ndarray, " n"], free: np.ndarray, gamma: float, number: float) -> int:
    largest = r.max()
    weight = np.where(free, (r / largest) ** gamma if largest > 0 else 1.0, 0.0)
    cumulative = np.cumsum(weight)
    found = int(np.searchsorted(cumulative, number * cumulative[-1], side="right"))
    return min(found, int(np.flatnonzero(weight)[-1]))  # rounding must not lead past the last that can be drawn
