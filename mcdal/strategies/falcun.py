"""FALCUN: sample where the two most likely classes are close and the probabilities unlike those picked before."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from mcdal.checked import at_least
from mcdal.selection.checks import refuse_bad_rows
from mcdal.selection.clusters import COPIED, by_id
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
        memory="a few numbers a sample, and its probabilities in float64 up to half a gigabyte",
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
    d, p = u.copy(), _wide(p)
    picks, scores = np.empty(len(draws), dtype=np.int64), np.empty(len(draws))
    for i, number in enumerate(draws.tolist()):
        r = _relevance(u, d, picks[:i])
        picks[i] = _drawn(r, picks[:i], gamma, number)
        scores[i] = r[picks[i]]
        _come_nearer(d, p, int(picks[i]))
    return picks.tolist(), scores.tolist()


def _wide(p: Float[Matrix, "n c"]) -> Float[Matrix, "n c"]:
    """In float64 once for all picks where that fits; a larger table is read in parts for each."""
    return p[:].astype(np.float64) if 8 * len(p) * p.shape[1] <= COPIED else p


def _come_nearer(d: Float[np.ndarray, " n"], p: Float[Matrix, "n c"], pick: int) -> None:
    """d = min(d, L1 distance to this row), in place."""
    centre = torch.from_numpy(p[pick : pick + 1].astype(np.float64))
    for where in chunks(len(p)):
        rows = torch.from_numpy(p[where].astype(np.float64, copy=False))
        np.minimum(d[where], torch.cdist(rows, centre, p=1)[:, 0].numpy(), out=d[where])


def _relevance(
    u: Float[np.ndarray, " n"], d: Float[np.ndarray, " n"], picks: Int[np.ndarray, " k"]
) -> Float[np.ndarray, " n"]:
    """r of each row, 0 of those that are picked, whose d counts for nothing from now on."""
    d[picks] = np.inf
    low = d.min()
    d[picks] = low
    high = d.max()
    r: Float[np.ndarray, " n"] = u + (d - low) / (high - low if high > low else 1.0)
    r[picks] = 0.0
    return r


def _drawn(r: Float[np.ndarray, " n"], picks: Int[np.ndarray, " k"], gamma: float, number: float) -> int:
    largest = r.max()
    weight = _power(r / largest, gamma) if largest > 0 else np.ones_like(r)
    weight[picks] = 0.0
    cumulative = np.cumsum(weight)
    found = int(np.searchsorted(cumulative, number * cumulative[-1], side="right"))
    # Rounding must not lead past the last that can be drawn.
    return found if found < len(r) else int(np.flatnonzero(weight)[-1])


def _power(x: Float[np.ndarray, " n"], exponent: float) -> Float[np.ndarray, " n"]:
    """x ** exponent; a small whole one, as gamma mostly is, by products: a third of the time."""
    if not float(exponent).is_integer() or exponent > 64:
        return x**exponent
    made, left = np.ones_like(x), int(exponent)
    while left:
        if left % 2:
            made *= x
        x, left = x * x, left // 2
    return made
