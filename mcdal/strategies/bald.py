"""BALD: label where draws of the weights by dropout contradict each other, each sure of itself."""

from dataclasses import dataclass

from mcdal.strategies._by_dropout import ByDropout
from mcdal.strategies.base import BOTH, About, Scored
from mcdal.values import Batch, Measurement


@dataclass
class BALD(ByDropout, Scored):
    """Houlsby et al. 2011: score = I(y; w) = H(1/T sum_t p_t) - 1/T sum_t H(p_t) >= 0, in nats.

    What a label says about the weights w. p_t, t = 1 ... T, are the class probabilities under T draws of w by dropout (Gal,
    Islam and Ghahramani 2017).
    """

    about = About(
        paper="Houlsby et al. 2011, *Bayesian Active Learning for Classification and Preference Learning*",
        needs=("features", "model"),
        cost="the head T times on the same features; with `dropout=null` T forward passes over the pool",
        memory="T x d dropout masks; with `dropout=null` one mask for each Dropout layer and draw",
        use="noisy labels or images that nobody can tell: what no label can settle scores low",
        avoid="large batches, whose members say the same (take power_bald); its task model is trained with dropout",
        tasks=BOTH,
    )

    def measure(self, batch: Batch) -> Measurement:
        return self.scored(self.mutual_information(batch), batch)
