"""QBC: query by committee; label where three networks contradict each other."""

from dataclasses import dataclass

from mcdal.strategies._by_committee import ByCommittee
from mcdal.strategies.base import BOTH, About
from mcdal.uncertainty import mutual_information
from mcdal.values import Batch, Measurement


@dataclass
class QBC(ByCommittee):
    """Kuo et al. 2018: score = H(1/M sum_m p_m) - 1/M sum_m H(p_m), the Jensen-Shannon divergence of M members, in nats.

    p_m, m = 1 ... M, are the members' class probabilities. The task model is one member; the others are trained beside it in
    every round, from another start and in another order of the images.
    """

    about = About(
        paper="Kuo et al. 2018, *Cost-Sensitive Active Learning for Intracranial Hemorrhage Detection*",
        needs=("probabilities", "training"),
        cost="M - 1 more networks to train, and their forward passes over the pool",
        memory="M - 1 networks with their optimizer, one network's activations at a time",
        use="where training M networks costs less than labels",
        avoid="large networks; batches so large that their members repeat each other",
        tasks=BOTH,
    )

    members: int = 3
    """M, the task model included."""

    def measure(self, batch: Batch) -> Measurement:
        return self.scored(mutual_information(self.votes(batch)), batch)
