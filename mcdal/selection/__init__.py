"""Choosing rows: pure functions over ids and numbers that a strategy calls. Ties are broken by id, NaN is refused by name."""

from mcdal.selection.checks import check_picks, mask
from mcdal.selection.top import (
    Sampling,
    at_random,
    balanced_top,
    most_likely,
    refuse_nan,
    stochastic_top,
    top,
    uniform,
    uniforms,
)

__all__ = [
    "Sampling", "at_random", "balanced_top", "check_picks", "mask",
    "most_likely", "refuse_nan", "stochastic_top", "top", "uniform", "uniforms",
]  # fmt: skip
