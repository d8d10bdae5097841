"""Who makes the trainings of a run, round after round: this process with others of its machine, or a cluster."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import final

from mcdal.device import Numerics
from mcdal.environment import HERE
from mcdal.events import Listener, nobody
from mcdal.models.base import Model
from mcdal.pool.base import Pool
from mcdal.processes import Processes
from mcdal.strategies.base import Strategy
from mcdal.training import Training, processes_for, train
from mcdal.work import Keeper, Trained


class Trainer(ABC):
    """Of one run. count: processes that train together. numerics: of this process, which measures and tests."""

    count: int
    numerics: Numerics
    where: str
    """For the record of what a result was computed with."""

    @property
    def elsewhere(self) -> bool:
        """Whether this process trains nothing itself."""
        return self.where != HERE

    @abstractmethod
    def train(
        self,
        model: Model,
        pool: Pool,
        labels: Mapping[str, int],
        strategy: Strategy,
        training: Training,
        *,
        seed: int,
        keeper: Keeper,
        listen: Listener,
    ) -> Trained:
        """As `mcdal.train`: model and strategy are left as it leaves them, in this process."""


class Place(ABC):
    """Where a run is trained."""

    @abstractmethod
    def trainer(
        self, training: Training, device: str, listen: Listener = nobody
    ) -> AbstractContextManager[Trainer]: ...


@final
class TrainHere(Place):
    """This machine."""

    @contextmanager
    def trainer(self, training: Training, device: str, listen: Listener = nobody) -> Iterator[Trainer]:
        numerics = training.numerics(device)
        with processes_for(training, numerics) as processes:
            yield _Here(numerics, processes)


@final
class _Here(Trainer):
    def __init__(self, numerics: Numerics, processes: Processes):
        self.count, self.numerics, self.where = processes.count, numerics, HERE
        self._processes = processes

    def train(
        self,
        model: Model,
        pool: Pool,
        labels: Mapping[str, int],
        strategy: Strategy,
        training: Training,
        *,
        seed: int,
        keeper: Keeper,
        listen: Listener,
    ) -> Trained:
        return train(
            model, pool, labels, strategy, training, numerics=self.numerics, seed=seed, keeper=keeper, listen=listen,
            processes=self._processes,
        )  # fmt: skip
