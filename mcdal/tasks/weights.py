"""Weights of rare classes, from what the labels of today show."""

import numpy as np
from jaxtyping import Int


def median_frequency(counts: Int[np.ndarray, "n c"]) -> tuple[float, ...]:
    """median(f) / f of each class (Eigen and Fergus 2015), 1 for one that no label shows.

    counts: pixels of each class in each label. f of a class: its pixels, over those of the labels that show it at all.
    """
    shown = counts > 0
    pixels, among = counts.sum(0), (counts.sum(1, keepdims=True) * shown).sum(0)
    there = pixels > 0
    frequency = pixels[there] / among[there]
    weights = np.ones(counts.shape[1])
    weights[there] = np.median(frequency) / frequency
    return tuple(weights.tolist())
