"""How accuracy goes on with further labels: a power law through the rounds so far, drawn again for its intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mcdal.campaign.judged import Curve

EXPONENTS = np.geomspace(0.1, 2.0, 25)
USUAL, SPREAD = 0.5, 0.7
"""Of the exponents of learning curves: their middle, and the deviation of their logarithm. It decides while points are few."""
LEAST_NOISE = 0.005
"""Of a training: deviation of its accuracy."""
FEWEST_ROUNDS = 3
FARTHEST = 100
"""Times the labels of now: beyond that nobody knows."""


@dataclass(frozen=True)
class Forecast:
    """accuracy(n) = limit - fall * n ** -exponent, of each draw; row 0 is the estimate."""

    limit: Float[np.ndarray, " draws"]
    fall: Float[np.ndarray, " draws"]
    exponent: Float[np.ndarray, " draws"]
    first: float
    """Labels of the first round."""
    labels: float
    """Labels of now."""

    def at(self, labels: float) -> Float[np.ndarray, " draws"]:
        """Accuracy with so many labels, of the curve and without the scatter of a single training."""
        values: Float[np.ndarray, " draws"] = self.limit - self.fall * labels**-self.exponent
        return values

    def more(self, labels: int) -> Float[np.ndarray, " draws"]:
        """What the curve gains by so many labels beyond those of now."""
        gained: Float[np.ndarray, " draws"] = self.at(self.labels + labels) - self.at(self.labels)
        return gained

    def needed(self, target: float | Float[np.ndarray, " draws"]) -> Float[np.ndarray, " draws"]:
        """Labels in all for this accuracy, those of the first round at least.

        Infinity where the curve does not get there, or only beyond FARTHEST times those of now.
        """
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            found = (self.fall / (self.limit - target)) ** (1 / self.exponent)
        found = np.where(self.limit > target, np.nan_to_num(found, nan=0.0, posinf=math.inf), math.inf)
        found = np.where(found > FARTHEST * self.labels, math.inf, found)
        needed: Float[np.ndarray, " draws"] = np.maximum(found, self.first)
        return needed


def forecast(curve: Curve) -> Forecast | None:
    """Of one curve. None before FEWEST_ROUNDS rounds are trained."""
    if len(curve.labels) < FEWEST_ROUNDS:
        return None
    return forecasts([curve])[0]


def forecasts(curves: Sequence[Curve], seed: int = 0) -> list[Forecast]:
    """Of curves on the same audit images, whose trainings scatter alike.

    Least squares over a grid of exponents; a deviation of the exponent's logarithm from USUAL by SPREAD costs as much as one
    point that is off by its noise. limit is at most 1, and more labels never hurt (fall >= 0). A training with other initial
    weights would have ended elsewhere: in each draw the points are moved by Student's t, with the deviation that all of them have
    from their curves.
    """
    noise = max(LEAST_NOISE, *(float(np.diff(c.accuracy[1:], axis=1).std(0).mean() / math.sqrt(2)) for c in curves))
    off = [_fitted(c.labels, c.accuracy[:1], noise)[3][0] for c in curves]
    freedom = max(1, sum(len(c.labels) - 2 for c in curves))
    scatter = max(LEAST_NOISE, math.sqrt(sum(off) / freedom))
    random, found = np.random.default_rng(seed), []
    for curve in curves:
        values = curve.accuracy.copy()
        values[1:] = np.clip(values[1:] + scatter * random.standard_t(freedom, values[1:].shape), 0, 1)
        limit, fall, exponent, _ = _fitted(curve.labels, values, max(noise, scatter))
        found.append(Forecast(limit, fall, exponent, float(curve.labels[0]), float(curve.labels[-1])))
    return found


def _fitted(
    labels: Float[np.ndarray, " points"], values: Float[np.ndarray, "draws points"], noise: float
) -> tuple[Float[np.ndarray, " draws"], ...]:
    """limit, fall, exponent and sum of squares of each row's best curve."""
    found = []
    for exponent in EXPONENTS:
        x = labels**-exponent
        centred = x - x.mean()
        fall = -(values @ centred) / (centred @ centred)
        limit = values.mean(1) + fall * x.mean()
        above = limit > 1  # then the best curve that ends at 1
        fall = np.maximum(np.where(above, ((1 - values) @ x) / (x @ x), fall), 0)
        limit = np.where(above, 1.0, values.mean(1) + fall * x.mean())
        off = ((limit[:, None] - fall[:, None] * x - values) ** 2).sum(1)
        cost = off / noise**2 + (math.log(exponent / USUAL) / SPREAD) ** 2
        found.append((limit, fall, np.full(len(values), exponent), off, cost))
    limit, fall, power, off, cost = (np.stack(column) for column in zip(*found, strict=True))
    best, rows = cost.argmin(0), np.arange(values.shape[0])
    return limit[best, rows], fall[best, rows], power[best, rows], off[best, rows]
