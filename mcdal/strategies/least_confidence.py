"""Least confidence: label where the most likely class is least likely."""

from dataclasses import dataclass

from mcdal.strategies.base import BOTH, About, Scored
from mcdal.uncertainty import least_confidence
from mcdal.values import Batch, Measurement


@dataclass
class LeastConfidence(Scored):
    """score = 1 - max_c p_c: 0 is certainty, 1 - 1/C is a tie of all classes (Lewis and Gale 1994)."""

    about = About(
        paper="Lewis and Gale 1994, *A Sequential Algorithm for Training Text Classifiers*",
        cost="none",
        memory="one number a sample",
        use="from some hundred labels on; between margin and entropy in what it looks at",
        avoid="the first labels of a pool, when the model's probabilities mean little",
        tasks=BOTH,
    )

    def measure(self, batch: Batch) -> Measurement:
        assert batch.output is not None
        return self.scored(least_confidence(batch.output.logits), batch)
