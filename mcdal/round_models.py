"""The task model of each round: trained, continued where it was killed, or taken over from a run that trained the same."""

from collections.abc import Callable, Mapping
from functools import partial

import torch

from mcdal.artifacts import Artifacts
from mcdal.environment import environment
from mcdal.errors import StoreError
from mcdal.events import Listener
from mcdal.models.base import Model
from mcdal.plan import Plan
from mcdal.pool.base import Pool
from mcdal.store import Store
from mcdal.streams import own_randomness, stream
from mcdal.trainer import Trainer
from mcdal.training import take_over
from mcdal.twins import may_take_over, twin
from mcdal.warm_start import StartWeights
from mcdal.work import OF_TRAINING, Trained


class RoundModels:
    """Those of one run, with the strategy attached. The last one is held: a round selects with what the one before learned."""

    def __init__(
        self, plan: Plan, pool: Pool, store: Store, artifacts: Artifacts, trainer: Trainer, listen: Listener,
        labels: Callable[[int], Mapping[str, int]], weights: StartWeights | None = None,
    ):  # fmt: skip
        """labels: what is learned from after a round. weights: what every round starts from; None: random ones."""
        self._labels, self._trainer, self._listen = labels, trainer, listen
        self._plan, self._pool, self._store, self._artifacts = plan, pool, store, artifacts
        self._config = plan.config
        self._trained: tuple[int, Model, Trained] | None = None
        self._weights = weights

    def check(self) -> None:
        """ConfigError where the model cannot start from the weights that were given."""
        if self._weights is not None and not self._weights.into(self._built(self._plan.seed_of("train", 0))):
            text = f"the head starts at random: {self._weights.path} has none for {len(self._pool.classes)} classes"
            self._listen("notice", text=text)

    def of(self, round: int) -> tuple[Model, Trained]:
        """The model of a round with the strategy attached to it: trained now, or taken from where its training was kept."""
        if self._trained is None or self._trained[0] != round:
            seed = self._plan.seed_of("train", round)
            model = self._built(seed)
            labels = self._labels(round)
            trained = self._take_over(model, round, labels, seed) or self._trainer.train(
                model, self._pool, labels, self._config.strategy, self._config.training, seed=seed, listen=self._listen,
                keeper=self._artifacts.checkpoint(round, self._config.checkpoint_seconds),
            )  # fmt: skip
            self._trained = round, model, trained
        return self._trained[1:]

    def _built(self, seed: int) -> Model:
        """The model before its training, the same for every strategy of a seed."""
        build = partial(self._config.model.build, len(self._pool.classes), *self._pool.shape)
        with own_randomness():
            torch.manual_seed(stream(seed, "init"))
            if self._weights is not None:
                return self._weights.builder(build)()
            model = build()
            model.rebuild = model.rebuild or build
            return model

    def _environment(self) -> Mapping[str, str]:
        return environment(self._trainer.numerics, self._trainer.count, self._trainer.where)

    def _take_over(self, model: Model, round: int, labels: Mapping[str, int], seed: int) -> Trained | None:
        """The model of this round as it was kept: this run's own, or that of another one that has trained in the same way."""
        if not may_take_over(self._config.strategy) or self._artifacts.has_training(round):
            return None
        record = self._store.run(self._plan.run_id)
        assert record is not None
        finished = {r.round for r in self._store.rounds(self._plan.run_id) if r.finished_at is not None}
        lender = (
            self._plan.run_id
            if round in finished
            else twin(self._store, record, self._config, round, labels, self._environment())
        )
        if lender is None:
            return None
        try:
            weights = Artifacts(self._artifacts.folder.parent / lender).read_model(round)
            if weights is None:
                return None
            take_over(
                model, weights, self._pool, labels, self._config.strategy, self._config.training,
                numerics=self._trainer.numerics, seed=seed,
            )  # fmt: skip
        except (StoreError, RuntimeError) as error:  # the second: weights of another network
            self._listen("notice", text=f"round {round} is trained again: {error}")
            return None
        if lender != self._plan.run_id:
            text = f"round {round}: took over the model of {lender}, which learned from the same labels"
            self._listen("notice", text=text)
        numbers = {m.name: m.value for m in self._store.metrics(lender) if m.round == round}
        seconds = next(r.seconds.get("train", 0.0) for r in self._store.rounds(lender) if r.round == round)
        own = {name: float(value) for name, value in self._config.strategy.metrics().items()}
        return Trained({name: numbers[name] for name in OF_TRAINING if name in numbers} | own, seconds)
