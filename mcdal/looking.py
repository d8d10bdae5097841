"""What a strategy sees of the pool before it chooses: one pass of the model, over the whole or shard by shard."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mcdal.artifacts import Artifacts
from mcdal.augment import Augmentation
from mcdal.config import Config
from mcdal.device import Numerics
from mcdal.errors import ConfigError
from mcdal.events import Listener, nobody
from mcdal.features import Features
from mcdal.measuring import measure, measure_features
from mcdal.models.base import Model
from mcdal.passes import Engine, Here, Measured, OnRay, measure_shards, rows_of
from mcdal.passes.shard_files import Kept
from mcdal.pool.base import Pool, Quarantined
from mcdal.strategies.base import Strategy, overrides
from mcdal.values import Rows

EXACTLY = 1_000_000
"""Samples up to which what is measured by shards is kept in single precision, as it is in memory."""


@dataclass
class Looking:
    """Of one run. What a pool in shards is measured by lies in files of the round: a killed pass continues after its last shard.

    engine: who measures shards. set_aside: is told of images that turned out to be unusable while they were read.
    """

    config: Config
    pool: Pool
    artifacts: Artifacts
    numerics: Numerics
    features: Features | None
    set_aside: Callable[[Sequence[Quarantined]], None]
    engine: Engine | None = None
    listen: Listener = nobody

    def check(self, trained_there: bool = False) -> None:
        """ConfigError where workers were asked for and nothing is measured in shards.

        trained_there: by the cluster that is named, which has then something to do, unless somebody says how many are to measure.
        """
        if self.engine is None or isinstance(self.engine, Here):
            return
        why = None
        if self.pool.sharded is None:
            why = "this source gives no pool in shards (`shards` does): leave --workers and --on out, or read it as shards"
        elif self.features is not None:
            why = (
                "the features of a frozen encoder or a file are measured in this process: leave --workers and --on out"
            )
        elif self.config.training.published_sampling:
            why = "training.published_sampling measures all images in one random order: leave it, or --workers and --on, out"
        if why and trained_there and isinstance(self.engine, OnRay) and self.engine.workers is None:
            self.listen("notice", text="the cluster trains; this process measures the pool and tests")
        elif why:
            raise ConfigError(f"workers measure a pool in shards, and there is nothing for them here: {why}")

    def rows(self, model: Model | None, strategy: Strategy, round: int, labels: Mapping[str, int], seed: int) -> Rows:
        """With the model of the last round; without one, what the strategy measures on the features alone."""
        training = self.config.training
        if model is None:
            assert self.features is not None  # the config makes sure of it
            return measure_features(
                self.pool, strategy, self.features, numerics=self.numerics, batch_size=training.measure_batch_size,
                seed=seed, listen=self.listen,
            )  # fmt: skip
        if self._by_shards(strategy):
            measured = self._measured(model, strategy, round, seed)
            self.set_aside(measured.quarantined)
            return rows_of(measured, labels, ids=self.pool.images.ids)
        augment: Augmentation | None = training.augment if training.published_sampling else None
        return measure(
            model, self.pool, labels, strategy, numerics=self.numerics,
            augment=augment, batch_size=training.batch_size if augment else training.measure_batch_size,
            seed=seed, embedding=self.features, window=training.window, listen=self.listen,
        )  # fmt: skip

    def _by_shards(self, strategy: Strategy) -> bool:
        """Features of the pool and augmented images are measured in one order over the whole."""
        alone = self.features is None and not self.config.training.published_sampling
        return self.pool.sharded is not None and alone and overrides(strategy, "measure")

    def _measured(self, model: Model, strategy: Strategy, round: int, seed: int) -> Measured:
        training, pool = self.config.training, self.pool
        assert pool.sharded is not None
        kept: Kept = "float32" if len(pool) <= EXACTLY else "float16"
        return measure_shards(
            model, pool.sharded, strategy, self.artifacts.pass_folder(round, type(strategy).__name__.lower()),
            numerics=self.numerics, batch_size=training.measure_batch_size, seed=seed, window=training.window,
            engine=self.engine or Here(), kept=kept,
            about={"pool": pool.fingerprint, "mean": repr(pool.mean), "std": repr(pool.std)}, listen=self.listen,
        )  # fmt: skip
