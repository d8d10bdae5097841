"""Ensemble: label where several networks, trained apart, are together least sure."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mcdal.errors import ConfigError
from mcdal.selection import uniforms
from mcdal.strategies._by_committee import ByCommittee
from mcdal.strategies.base import BOTH, About
from mcdal.uncertainty import mutual_information, predictive_entropy, variation_ratio
from mcdal.values import Batch, Measurement, Picks, Rows

MEASURES = {
    "predictive_entropy": predictive_entropy,
    "bald": mutual_information,
    "variation_ratio": variation_ratio,
}


@dataclass
class Ensemble(ByCommittee):
    """Beluch et al. 2018, with p_m, m = 1 ... M, the class probabilities of M networks of the same kind:

        predictive_entropy  H(1/M sum_m p_m), in nats
        bald                H(1/M sum_m p_m) - 1/M sum_m H(p_m), in nats
        variation_ratio     1 - f/M, with f the number of members that vote for the commonest class

    The task model is one member; the others are trained beside it in every round, from another start and in another order of
    the images. Variation ratios take few values: equal ones are picked at random.
    """

    about = About(
        paper="Beluch et al. 2018, *The Power of Ensembles for Active Learning in Image Classification*",
        needs=("probabilities", "training"),
        cost="M - 1 more networks to train, and their forward passes over the pool",
        memory="M - 1 networks with their optimizer, one network's activations at a time",
        use="where training M networks costs less than labels: the best calibrated of the uncertainties",
        avoid="large networks; batches so large that their members repeat each other",
        tasks=BOTH,
    )

    members: int = 5
    """M, the task model included."""
    score: Literal["predictive_entropy", "bald", "variation_ratio"] = "predictive_entropy"
    """predictive_entropy: unsure together. bald: in contradiction. variation_ratio: not voting alike."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score not in MEASURES:
            raise ConfigError(f"strategy.score = {self.score!r}: it must be {', '.join(MEASURES)}")

    def measure(self, batch: Batch) -> Measurement:
        return self.scored(MEASURES[self.score](self.votes(batch)), batch)

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        if rows.score is None or self.score != "variation_ratio" or self.sampling != "top":
            return super().select(rows, budget, seed)
        lots = uniforms(seed, rows.ids) / (2 * self.members)  # less than one vote
        ids = super().select(replace(rows, score=rows.score + lots), budget, seed).ids
        ratio = dict(zip(rows.ids, rows.score.tolist(), strict=True))
        return Picks(ids, np.array([ratio[id] for id in ids], dtype=np.float64))
