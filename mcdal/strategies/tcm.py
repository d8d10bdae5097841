"""TCM: TypiClust for the first labels, Margin from then on."""

from dataclasses import dataclass, field

from mcdal.checked import at_least
from mcdal.selection.checks import refuse_bad_rows
from mcdal.selection.top import top
from mcdal.strategies.base import BOTH, About, Strategy
from mcdal.strategies.typiclust import TypiClust
from mcdal.uncertainty import margin
from mcdal.values import Batch, Measurement, Picks, Rows


@dataclass
class TCM(Strategy):
    """Doucet et al. 2024. TypiClust while there are fewer than `until` labels a class, then Margin: the rows whose two most
    likely classes are closest. `score` is what the method at work scores by: the typicality, or 1 - (p_(1) - p_(2)).
    """

    about = About(
        paper="Doucet et al. 2024, *Bridging Diversity and Uncertainty in Active Learning with Self-Supervised Pre-Training*",
        needs=("probabilities", "features"),
        cost="TypiClust's for the first rounds, none afterwards",
        memory="TypiClust's: a copy of the features",
        use="a campaign from the first label on, with self-supervised or pretrained features",
        avoid="features that do not group by class: the first rounds are then worse than Random's",
        tasks=BOTH,
    )

    until: float = 5.0
    """Labels a class, on average, from which on Margin picks. The earlier, the better the features are."""
    clusters: int = 500
    """TypiClust's: most clusters there are."""
    neighbours: int = 20
    """TypiClust's: nearest samples that typicality is measured over."""
    smallest: int = 5
    """TypiClust's: clusters of up to this many samples are left out while there are others."""
    _typical: TypiClust = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        at_least(self, "strategy", 0, "until")
        self._typical = TypiClust(self.clusters, self.neighbours, self.smallest)

    def measure(self, batch: Batch) -> Measurement:
        assert batch.output is not None
        p = batch.output.logits.softmax(1)
        return Measurement(score=margin(batch.output.logits), vector=batch.covering_features(), probabilities=p)

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        assert rows.score is not None and rows.probabilities is not None
        refuse_bad_rows(rows)
        if rows.labeled.sum() < self.until * rows.probabilities.shape[1]:
            return self._typical.select(rows, budget, seed)
        return top(rows.ids, rows.score, budget, rows.free())
