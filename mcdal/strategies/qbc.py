"""QBC: query by committee; label where three networks contradict each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mcdal.errors import ConfigError, SelectionError
from mcdal.models.base import Model
from mcdal.networks.committee import Committee
from mcdal.strategies.base import About, Scored, Setting, Stateful
from mcdal.tasks.base import Task
from mcdal.uncertainty import mutual_information
from mcdal.values import Batch, Measurement, Metrics, Progress


@dataclass
class QBC(Scored):
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
    )

    members: int = 3
    """M, the task model included."""
    _committee: Committee | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.members < 2:
            raise ConfigError(f"strategy.members = {self.members}: at least 2 members are needed to disagree")

    def attach(self, model: Model, task: Task, setting: Setting) -> None:
        self._committee = Committee(model, task, self.members, setting.optimization, setting.place, setting.labeled)

    def step(self, labeled: Batch, unlabeled: Batch, progress: Progress) -> None:
        assert self._committee is not None
        self._committee.step(progress)

    def measure(self, batch: Batch) -> Measurement:
        if self._committee is None:
            raise SelectionError("QBC has no committee yet: train with this object first (`train` attaches it)")
        return Measurement(score=mutual_information(self._committee.probabilities(batch)))

    def state(self) -> Mapping[str, Stateful]:
        return {} if self._committee is None else self._committee.state()

    def metrics(self) -> Metrics:
        return {} if self._committee is None else self._committee.metrics()
