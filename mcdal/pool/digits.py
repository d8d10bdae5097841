"""Scikit-learn's handwritten digits: 1,797 grey images of 8x8, nothing to download."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcdal.events import Listener, nobody
from mcdal.pool.assemble import from_arrays
from mcdal.pool.base import Pool, Source
from mcdal.pool.split import stratified


@dataclass(frozen=True)
class Digits(Source):
    """The digits that come with scikit-learn, grey values 0 to 16 scaled to 0 to 255."""

    test_share: float = 0.3
    """Share of every class that is held out for the test."""
    split_seed: int = 0
    """Seed of the held-out split."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        from sklearn.datasets import load_digits  # imports much; only this source needs it

        digits = load_digits()
        pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
        targets = digits.target.astype(np.int64)
        ids = tuple(f"digits/{i:04d}" for i in range(len(pixels)))
        pool, test = (
            (tuple(ids[i] for i in chosen), pixels[chosen], targets[chosen])
            for chosen in stratified(ids, targets, self.test_share, self.split_seed)
        )
        return from_arrays("digits", tuple(str(name) for name in digits.target_names), pool, test)
