"""Margin: label where the two most likely classes are closest."""

from dataclasses import dataclass

from mcdal.strategies.base import BOTH, About, Scored
from mcdal.uncertainty import margin
from mcdal.values import Batch, Measurement


@dataclass
class Margin(Scored):
    """score = 1 - (p_(1) - p_(2)), the two largest class probabilities (Scheffer et al. 2001); 1 is a tie, 0 is certainty."""

    about = About(
        paper="Scheffer et al. 2001, *Active Hidden Markov Models for Information Extraction*",
        cost="none",
        memory="one number a sample",
        use="the row to beat: hard to outdo from some hundred labels on, at any number of classes",
        avoid="the first labels of a pool, when the model's probabilities mean little",
        tasks=BOTH,
    )

    def measure(self, batch: Batch) -> Measurement:
        assert batch.output is not None
        return self.scored(margin(batch.output.logits), batch)
