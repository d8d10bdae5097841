"""MC-dropout: label where several draws of the weights by dropout are, on the whole, least sure (DBAL)."""

from dataclasses import dataclass

from mcdal.strategies._by_dropout import ByDropout
from mcdal.strategies.base import BOTH, About, Scored
from mcdal.values import Batch, Measurement


@dataclass
class MCDropout(ByDropout, Scored):
    """Gal, Islam and Ghahramani 2017: score = H(1/T sum_t p_t), in nats, the predictive entropy.

    p_t, t = 1 ... T, are the class probabilities under T draws of the weights by dropout. Unsure draws and draws that
    contradict each other both count; `bald` counts the contradiction alone.
    """

    about = About(
        paper="Gal, Islam and Ghahramani 2017, *Deep Bayesian Active Learning with Image Data*",
        needs=("features", "model"),
        cost="the head T times on the same features; with `dropout=null` T forward passes over the pool",
        memory="T x d dropout masks; with `dropout=null` one mask for each Dropout layer and draw",
        use="small labeled sets, where a single network is too sure of itself",
        avoid="many classes and few labels, as all entropies; its task model is trained with dropout, so compare it with care",
        tasks=BOTH,
    )

    def measure(self, batch: Batch) -> Measurement:
        return self.scored(self.predictive_entropy(batch), batch)
