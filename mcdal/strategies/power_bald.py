"""Power BALD: BALD by lot, in proportion to a power of the score, so that a large batch is not all of one kind."""

from dataclasses import dataclass

from mcdal.selection import Sampling
from mcdal.strategies._by_dropout import ByDropout
from mcdal.strategies.base import BOTH, About, Scored
from mcdal.values import Batch, Measurement


@dataclass
class PowerBALD(ByDropout, Scored):
    """Kirsch et al. 2023: without replacement, each next pick in proportion to score^beta, with the score of `bald`,

        I(y; w) = H(1/T sum_t p_t) - 1/T sum_t H(p_t),

    p_t, t = 1 ... T, the class probabilities under T draws of the weights w by dropout. The same as the largest of
    log score + Gumbel noise / beta.
    """

    about = About(
        paper="Kirsch et al. 2023, *Stochastic Batch Acquisition: A Simple Baseline for Deep Active Learning*",
        needs=("features", "model"),
        cost="the head T times on the same features; with `dropout=null` T forward passes over the pool",
        memory="T x d dropout masks; with `dropout=null` one mask for each Dropout layer and draw",
        use="BALD with batches of any size: near batch_bald for the price of bald",
        avoid="batches of a few images, where batch_bald is affordable; its task model is trained with dropout",
        tasks=BOTH,
    )

    sampling: Sampling = "power"
    """power: by lot in proportion to score^beta. softmax, softrank: to exp(beta score) or rank^-beta. top: as `bald`."""

    def measure(self, batch: Batch) -> Measurement:
        return self.scored(self.mutual_information(batch), batch)
