"""UHerding: MaxHerding that counts a sample by how unsure the calibrated model is of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mcdal.errors import ConfigError, SelectionError
from mcdal.models.base import Model
from mcdal.networks.calibration import Calibration
from mcdal.selection.checks import refuse_bad_rows
from mcdal.selection.clusters import by_id, unit
from mcdal.selection.demand import Demand, Size
from mcdal.selection.herding import herd, herding_demand, nearest_pair
from mcdal.strategies.base import About, Need, Setting, Stateful, Strategy
from mcdal.tasks.base import Task
from mcdal.uncertainty import margin
from mcdal.values import Batch, Measurement, Metrics, Picks, Progress, Rows


@dataclass
class UHerding(Strategy):
    """Bae et al. 2025, on features of length 1: given or self-supervised ones where there are any, else the model's.

    Picks, again and again, argmax_x mean_n u_n max(k(x, x_n) - m_n, 0), with k(x, y) = exp(-(||x - y|| / h)^2), m_n the largest
    kernel of x_n to anything labeled or picked, and u_n = 1 - (p_(1) - p_(2)) of p = softmax(logits / tau). Few labels: h is
    large, tau too, so that all u are near 1, and it is MaxHerding; many: it is Margin.

    tau: of 1, 1.1 ... 20 the one with the least calibration error of a second network on `held_out` of the labels, which that
    network does not learn. h: the smallest distance between two labeled samples that are not the same to 1e-3; 1 without
    such. `score` is the gain.
    """

    about = About(
        paper="Bae et al. 2025, *Uncertainty Herding: One Active Learning Method for All Label Budgets*",
        needs=("probabilities", "features", "training"),
        cost="a second network like the task model; all pairs of samples in blocks, once or a few times: O(N^2 d)",
        memory="the second network with its optimizer; a copy of the features, up to 256 numbers a sample for a narrow bandwidth",
        use="where one method has to do from the first labels to the last",
        avoid="pools of many hundred thousands; networks that are too large to be trained twice",
    )

    bandwidth: float | None = None
    """h of the kernel; null: from the labeled samples."""
    held_out: float = 0.3
    """Share of the labels that tau is chosen on; 0 trains no second network and tau is 1, which also works on arrays."""
    _calibration: Calibration | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise ConfigError(f"strategy.bandwidth = {self.bandwidth}: give a distance above 0, or null")
        if not 0 <= self.held_out < 1:
            raise ConfigError(f"strategy.held_out = {self.held_out}: give a share of at least 0 and below 1")

    def attach(self, model: Model, task: Task, setting: Setting) -> None:
        if self.held_out:
            optimization, place, labeled = setting.optimization, setting.place, setting.labeled
            self._calibration = Calibration(model, task, optimization, place, labeled, self.held_out)

    def step(self, labeled: Batch, unlabeled: Batch, progress: Progress) -> None:
        if self._calibration is not None:
            self._calibration.step(progress)

    def measure(self, batch: Batch) -> Measurement:
        if self._calibration is None and self.held_out:
            raise SelectionError("UHerding has no temperature yet: train with this object first (`train` attaches it)")
        assert batch.output is not None
        unsure = margin(batch.output.logits / self._tau())
        return Measurement(score=unsure, vector=batch.covering_features())

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        assert rows.vector is not None and rows.score is not None
        refuse_bad_rows(rows)
        order = by_id(rows.ids, np.arange(len(rows.ids)))
        points, labeled = unit(rows.vector, order), rows.labeled[order]
        h = self.bandwidth or nearest_pair(points[labeled]) or 1.0
        picks, gains = herd(points, labeled, rows.score[order].astype(np.float32), h, budget)
        return Picks(tuple(rows.ids[order[i]] for i in picks), np.array(gains, dtype=np.float64))

    def demand(self, size: Size) -> Demand:
        """As of `herd`."""
        return herding_demand(size)

    def state(self) -> Mapping[str, Stateful]:
        return {} if self._calibration is None else self._calibration.state()

    def metrics(self) -> Metrics:
        """train/temperature: tau, from the last step on; 1 before it."""
        return {} if self._calibration is None else {"train/temperature": self._tau()}

    @property
    def needs(self) -> tuple[Need, ...]:
        return self.about.needs if self.held_out else ("probabilities", "features")

    def _tau(self) -> float:
        return 1.0 if self._calibration is None else float(self._calibration.temperature.value)
