"""DropQuery: label, well spread, where dropout on the features changes the predicted class."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from mcdal.errors import ConfigError, SelectionError
from mcdal.models.base import Model
from mcdal.networks.dropout import MonteCarloDropout
from mcdal.selection.checks import refuse_bad_rows
from mcdal.selection.k_means import among_candidates
from mcdal.strategies.base import About, Setting, Strategy
from mcdal.tasks.base import Task
from mcdal.values import Batch, Measurement, Picks, Rows


@dataclass
class DropQuery(Strategy):
    """Gupte et al. 2024. A row is a candidate if most of `passes` predictions under dropout differ from the one without:

        1/M sum_m [argmax h(drop_m(z)) != argmax h(z)] > 1/2        (h the head, z the features before it)

    k-means of the candidates' features, scaled to length 1, into as many clusters as the budget; the candidate nearest to each
    centre is picked. Too few candidates: all of them, then others by lot. `score`: candidates in the pick's cluster.
    The masks are the same for all rows, so that a row does not depend on others; the published code draws one for each.
    """

    about = About(
        paper="Gupte et al. 2024, *Revisiting Active Learning in the Era of Vision Foundation Models*",
        needs=("features", "model"),
        cost="the head M times on the same features, then k-means of the candidates",
        memory="M masks, and a copy of up to 50,000 candidates' features",
        use="a linear head on features of a large pretrained model, from few labels on",
        avoid="a head with few features, where dropout changes most answers and the rest is k-means alone",
    )

    passes: int = 3
    """M, predictions under dropout."""
    dropout: float = 0.75
    """Share of the features that is set to 0."""

    def __post_init__(self) -> None:
        if not 0 < self.dropout < 1:
            raise ConfigError(f"strategy.dropout = {self.dropout}: give a rate between 0 and 1")
        self._draws = MonteCarloDropout(self.passes, self.dropout)

    def attach(self, model: Model, task: Task, setting: Setting) -> None:
        self._draws.attach(model, task)

    def seeds(self) -> Mapping[str, int]:
        return self._draws.seeds()

    def measure(self, batch: Batch) -> Measurement:
        """score: the share of passes that answer otherwise."""
        assert batch.output is not None
        logits = batch.output.logits
        p = self._draws.probabilities(batch)
        flips = (p.argmax(2) != logits.argmax(1)).to(p.dtype).mean(0)
        broken = logits.isnan().any(1) | p.isnan().any(2).any(0)
        return Measurement(score=torch.where(broken, torch.nan, flips), vector=batch.output.features)

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        if rows.score is None or rows.vector is None:
            raise SelectionError("dropquery picks by the rows that it measures: they have no score or no vector")
        refuse_bad_rows(rows)
        return among_candidates(rows, rows.score > 0.5, budget, seed)
