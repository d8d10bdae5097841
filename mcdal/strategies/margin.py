"""Margin: label where the two most likely classes are closest."""

from dataclasses import dataclass

from mcdal.strategies.base import Strategy
from mcdal.values import Batch, Measurement


@dataclass
class Margin(Strategy):
    """score = 1 - (p_(1) - p_(2)), the two largest class probabilities (Scheffer et al. 2001); 1 is a tie, 0 is certainty."""

    def measure(self, batch: Batch) -> Measurement:
        assert batch.output is not None
        first, second = batch.output.logits.softmax(1).topk(2, dim=1).values.unbind(1)
        return Measurement(score=1 - (first - second))
