"""Entropy: label where the class probabilities have the largest entropy."""

from dataclasses import dataclass

from mcdal.strategies.base import BOTH, About, Scored
from mcdal.uncertainty import entropy
from mcdal.values import Batch, Measurement


@dataclass
class Entropy(Scored):
    """score = H(p) = -sum_c p_c log p_c, in nats: 0 is certainty, log C is a tie of all classes (Shannon 1948)."""

    about = About(
        paper="Settles and Craven 2008, *An Analysis of Active Learning Strategies for Sequence Labeling Tasks*",
        cost="none",
        memory="one number a sample",
        use="from some hundred labels on, with up to some tens of classes",
        avoid="many classes and few labels: it then prefers images that look like nothing at all to those between two classes",
        tasks=BOTH,
    )

    def measure(self, batch: Batch) -> Measurement:
        assert batch.output is not None
        return self.scored(entropy(batch.output.logits), batch)
