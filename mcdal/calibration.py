"""How far probabilities may be believed: a temperature that mends them, and the calibration error before and after. Pure."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BOUNDS = (1e-3, 1e3)
"""Temperatures that are looked at."""
FEWEST = 20
"""Labels below which no temperature is fitted."""
FEW = 100
"""Labels below which it is rough."""
BINS, FEWEST_IN_BIN = 15, 10
SPLITS, RESAMPLES = 20, 200
LEVEL = 0.95

Logits = Float[np.ndarray, "n c"]
Classes = Int[np.ndarray, " n"]


@dataclass(frozen=True)
class Temperature:
    """Logits are divided by `value` before the softmax. note: why it is rough, or 1 for want of labels; else empty."""

    value: float
    note: str = ""


@dataclass(frozen=True)
class Judged:
    """An expected calibration error with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """Of `labels` images that nothing was trained on.

    before, after: the expected calibration error as the model gives its probabilities, and with a temperature that was fitted on
    other labels than it is judged by. perfect: what a model without any such error shows on as few labels, after the temperature.
    None where there are too few labels.
    """

    temperature: Temperature
    labels: int
    before: Judged | None = None
    after: Judged | None = None
    perfect: float | None = None


def nll(logits: Logits, y: Classes, temperature: float = 1.0) -> float:
    """Mean of -log p of what is true."""
    return float(-log_softmax(logits / temperature, axis=1)[np.arange(len(y)), y].mean())


def fit_temperature(logits: Logits, y: Classes) -> Temperature:
    """The temperature with the least negative log-likelihood (Guo et al. 2017).

    In 1 / T that is convex, so there is one best value. 1, with a note, where labels cannot tell: too few, or all of them as the
    model says (ever smaller temperatures would then be better), or a model no better than chance.
    """
    n = len(y)
    if n < FEWEST:
        return Temperature(1.0, f"{n} audit labels are too few for a temperature ({FEWEST} are the least): 1 is taken")
    if why := _cannot_tell(logits, y):
        return Temperature(1.0, f"{n} audit labels cannot tell a temperature, since {why}: 1 is taken")
    rough = f"a temperature from {n} audit labels is rough: with {FEW} and more it is steadier" if n < FEW else ""
    return Temperature(_best(logits, y), rough)


def _cannot_tell(logits: Logits, y: Classes) -> str:
    """Why there is no best temperature; empty where there is one."""
    if (logits.argmax(1) == y).all():
        return "none of them contradicts the model"
    ahead = logits[np.arange(len(y)), y].mean() - logits.mean()  # the slope of the likelihood in 1 / T, at 0
    return "" if ahead > 0 else "the model is no better than chance on them"


def _best(logits: Logits, y: Classes, exact: float = 1e-5) -> float:
    """Where there is one."""
    found = minimize_scalar(
        lambda log_t: nll(logits, y, np.exp(log_t)), bounds=tuple(np.log(BOUNDS)), method="bounded", options={"xatol": exact}
    )  # fmt: skip
    return float(np.exp(found.x))


def calibration_error(p: Float[np.ndarray, "n c"], y: Classes, bins: int | None = None) -> float:
    """Expected calibration error over bins of equal mass: sum over bins B of |B|/n |accuracy(B) - mean confidence(B)|.

    Samples in the order of their confidence max p are cut into `bins` parts whose sizes differ by one at most. By default there
    are 15, fewer where a bin would hold less than ten. Of few labels it is above 0 also where nothing is wrong.
    """
    return _error(p.max(1), p.argmax(1) == y, bins)


def _error(confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], bins: int | None = None) -> float:
    n = len(right)
    if not n:
        raise ValueError("no label to judge a calibration by")
    gap = (right - confidence)[np.argsort(confidence, kind="stable")]
    parts = np.array_split(gap, bins or max(1, min(BINS, n // FEWEST_IN_BIN)))
    return float(sum(abs(part.sum()) for part in parts) / n)


def calibrate(logits: Logits, y: Classes, seed: int = 0) -> Calibration:
    """The temperature from all labels, and what it is worth: errors before and after, with bootstrap intervals.

    The error after is cross-fitted: the temperature of each half of the labels is judged by the other half, both together, and
    the mean over SPLITS splits is taken. The bootstrap draws labels again and repeats all of that, so that the interval holds how
    unsteady the temperature is; copies of a label stay in one half. Its percentiles are shifted by the mean bias that drawing
    again brings.
    """
    fitted, n = fit_temperature(logits, y), len(y)
    if n < FEWEST:
        return Calibration(fitted, n)
    draw = np.random.default_rng(seed)
    everyone = np.arange(n)
    before = calibration_error(softmax(logits, axis=1), y)
    after = float(np.mean([cross_fitted(logits, y, everyone, draw) for _ in range(SPLITS)]))
    resampled = [draw.integers(n, size=n) for _ in range(RESAMPLES)]
    befores = [calibration_error(softmax(logits[rows], axis=1), y[rows]) for rows in resampled]
    afters = [cross_fitted(logits, y, rows, draw) for rows in resampled]
    p = softmax(logits / fitted.value, axis=1)
    chance = [_error(p.max(1), draw.random(n) < p.max(1)) for _ in range(RESAMPLES)]
    return Calibration(
        fitted, n, _interval(before, befores), _interval(after, afters), float(np.mean(chance))
    )  # fmt: skip


def cross_fitted(logits: Logits, y: Classes, rows: Int[np.ndarray, " m"], draw: np.random.Generator) -> float:
    """The error of these rows, each with a temperature from the half that it is not in; equal rows are in one half."""
    different = draw.permutation(np.unique(rows))
    first = np.isin(rows, different[: len(different) // 2])
    scaled = np.empty((len(rows), logits.shape[1]))
    for half in (first, ~first):
        other = rows[~half]
        scaled[half] = logits[rows[half]] / _halves_best(logits[other], y[other])
    return calibration_error(softmax(scaled, axis=1), y[rows])


def _halves_best(logits: Logits, y: Classes) -> float:
    """As `fit_temperature`, however few there are."""
    return 1.0 if _cannot_tell(logits, y) else _best(logits, y, 1e-3)


def _interval(value: float, resampled: list[float]) -> Judged:
    bias = float(np.mean(resampled)) - value
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - bias
    return Judged(value, max(0.0, float(low)), float(high))
