"""One run: rounds of select, ask, train, record. Read `Run.play` first.

A round is begun, answered and finished in the store, one transaction each; whatever a killed process had not recorded is
computed again, to the same bits.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from mcdal.artifacts import Artifacts
from mcdal.batches import Batch, Batches
from mcdal.environment import differences, environment
from mcdal.errors import McdalError, PoolError, StoreError
from mcdal.events import Listener, nobody
from mcdal.features import check_file, digest, read_features
from mcdal.inputs import Inputs
from mcdal.looking import Looking
from mcdal.measuring import evaluate
from mcdal.models.base import Model
from mcdal.oracles.base import Oracle
from mcdal.oracles.simulated import Simulated
from mcdal.passes import Engine
from mcdal.pictures import heat_pictures, mask_picture, pick_pictures, scenes, spread_out
from mcdal.plan import Plan, grown, refuse_changes
from mcdal.pool.base import Pool, Quarantined
from mcdal.round_models import RoundModels
from mcdal.selection import at_random, mask
from mcdal.settings import to_json
from mcdal.showing import heat, predict
from mcdal.store import RunRecord, Store
from mcdal.strategies.base import Strategy
from mcdal.trainer import Place, Trainer, TrainHere
from mcdal.twins import LENDS, lends
from mcdal.values import Label, Metrics, Picks, Rows
from mcdal.warm_start import StartWeights


def run(
    plan: Plan,
    out: Path | str,
    *,
    device: str = "auto",
    oracle: Callable[[Pool], Oracle] = Simulated.of,
    engine: Engine | None = None,
    train_on: Place | None = None,
    listen: Listener = nobody,
) -> str:
    """Plays the run, or what is left of it after an interruption; gives its id in the store in `out`.

    oracle: gives who answers for a pool; by default its true labels do. engine: who measures a pool in shards (`mcdal.passes`);
    this process without it, to the same rows; ConfigError where it would have nothing to do. train_on: where it is trained, such
    as `mcdal.ray_training.TrainOnRay("auto")`; this machine without it.
    The same plan in the same `out` is the same run.
    Raises StoreError where the run exists with another configuration or other data, or is being played by another process.
    """
    out = Path(out)
    if plan.config.features is not None:
        check_file(plan.config.features)
    weights = None if plan.config.weights is None else StartWeights.read(plan.config.weights)
    with (train_on or TrainHere()).trainer(plan.config.training, device, listen) as trainer:
        store = Store(out)
        artifacts = Artifacts(out / "runs" / plan.run_id)
        try:
            with artifacts.only_process(), store.alone(plan.run_id):
                artifacts.sweep()
                listen("run", run_id=plan.run_id, rounds=plan.config.protocol.planned)
                pool = plan.config.open(out / "cache", trainer.numerics, listen)
                answering = oracle(pool)
                if pool.masks is not None:  # from here on those that were given as answers
                    pool = replace(pool, masks=store.masks(pool.masks.size))
                playing = Run(plan, pool, store, artifacts, trainer, answering, listen, weights, engine)
                playing.begin()
                with playing.session():
                    playing.play()
        finally:
            store.close()
    return plan.run_id


@dataclass
class Run:
    """A run under way. Its state is the store's; what it holds itself is only what need not be computed twice."""

    plan: Plan
    pool: Pool
    store: Store
    artifacts: Artifacts
    trainer: Trainer
    oracle: Oracle
    listen: Listener = nobody
    weights: StartWeights | None = None
    engine: Engine | None = None

    def __post_init__(self) -> None:
        self.config = self.plan.config
        self.id = self.plan.run_id
        self.numerics = self.trainer.numerics
        self.sizes = self._sizes()
        file = self.config.features
        self.features = None if file is None else read_features(file, self.pool.images.originals)
        self.batches = Batches(self.plan, self.pool, self.listen)
        self.looking = Looking(
            self.config,
            self.pool,
            self.artifacts,
            self.numerics,
            self.features,
            self._set_aside,
            self.engine,
            self.listen,
        )
        self.looking.check(self.trainer.elsewhere)
        self.outcome = "done"
        self._standing: set[str] | None = None
        self.models = RoundModels(
            self.plan, self.pool, self.store, self.artifacts, self.trainer, self.listen, self.labels, self.weights
        )

    def play(self) -> None:
        """Every round that is not finished: pick what to label, ask for it, train on all labels so far, record."""
        rounds = self.store.rounds(self.id)
        for recorded in rounds:  # what a kill left between the record of a choice and the end of its files
            self.artifacts.forget_passes(recorded.round)
        for round in range(len(self.sizes)):
            if round < len(rounds) and rounds[round].finished_at is not None:
                continue
            if round >= len(rounds) and self.oracle.is_over():
                break
            self.listen("round", round=round, rounds=len(self.sizes))
            with _naming(round):
                if round >= len(rounds):
                    self.pick(round)
                if not self.ask(round):
                    self.outcome = "waiting"
                    break
                self.learn(round)

    def pick(self, round: int) -> None:
        """What to label in this round: a start set first, then what the strategy picks with the last round's model."""
        seconds: dict[str, float] = {}
        # The start set depends on the seed and the cold start alone: every strategy of a seed begins with the same images.
        strategy = self.strategy if round > 0 else self.config.cold_start
        batch = self._picked(strategy, round, seconds)
        while self._set_unusable_aside(batch.picks):
            batch = self._picked(strategy, round, seconds)
        picks = batch.picks
        self.artifacts.write_gallery(round, pick_pictures(self.pool, picks.ids[: self.config.gallery]))
        self.store.begin_round(
            self.id, round, self.plan.seed_of("train", round), picks, strategy is not None, seconds, batch.arms
        )
        self.artifacts.forget_passes(round)

    def _picked(self, strategy: Strategy | None, round: int, seconds: dict[str, float]) -> Batch:
        if strategy is None:
            return Batch(self._start_set(self.plan.seed_of("select", round)), {})
        model = None if round == 0 else self.models.of(round - 1)[0]
        with _timed(seconds, "measure"):
            rows = self._look(model, strategy, round)
        with _timed(seconds, "select"):
            batch = self._choose(strategy, rows, round, model)
        self.artifacts.write_rows(round, rows, mask(batch.picks, rows))
        with _timed(seconds, "measure"):
            self._keep_heat(model, strategy, round, batch.picks)
        return batch

    def _start_set(self, seed: int) -> Picks:
        ids, away = self.pool.images.ids, self.store.set_aside_ids(self.id)
        if not away:
            return at_random(ids, self.sizes[0], seed)
        among = np.fromiter((i for i, id in enumerate(ids) if id not in away), dtype=np.int64)
        return at_random(ids, self.sizes[0], seed, among)

    def _set_unusable_aside(self, picks: Picks) -> bool:
        """Whether any of these images cannot be read, where that is found out as they are: people must not be asked about it.

        What has features was read when these were made.
        """
        if self.pool.sharded is not None:
            positions = np.array([self.pool.position(id) for id in picks.ids], dtype=np.int64)
            chunks = np.array_split(positions, max(1, -(-len(positions) // self.config.training.measure_batch_size)))
            for _ in self.pool.images.batches(chunks, torch.device("cpu")):
                pass
        picked = set(picks.ids)
        bad = [q for q in self.pool.images.quarantined if q.id in picked]
        if bad:
            self._set_aside(bad)
        return bool(bad)

    def _choose(self, strategy: Strategy, rows: Rows, round: int, model: Model | None) -> Batch:
        """What the round asks for, of samples that were not set aside."""
        if away := self.store.set_aside_ids(self.id):
            rows = rows.without(away)
        return self.batches.choose(
            strategy, rows, self.sizes[round], round, lambda other: self._look(model, other, round)
        )

    def ask(self, round: int) -> bool:
        """Whether every sample of this round has its label, after asking the oracle for those that have none."""
        missing = self.store.unanswered(self.id, round)
        if missing:
            self.oracle.ask(missing)
            answers = list(self.oracle.answers())
            self._refuse_faults(answers)
            self.store.add_labels(self.id, answers)
            self._standing = None
            self.store.set_aside(self.id, self.oracle.given_up())
            missing = self.store.unanswered(self.id, round)
        return not missing

    def learn(self, round: int) -> None:
        """Trains on all labels so far, tests, keeps the model, and records the round as finished."""
        seconds: dict[str, float] = {}
        labels = self.labels(round)
        shown = self.pool.shows(labels)
        self._report_missing_classes(round, shown)
        model, trained = self.models.of(round)
        with _timed(seconds, "test"):
            reached = evaluate(
                model, self.pool, numerics=self.numerics,
                batch_size=self.config.training.measure_batch_size, window=self.config.training.window,
                listen=self.listen,
            )  # fmt: skip
            self._keep_scenes(model, round)
        seconds["train"] = trained.seconds
        self.artifacts.write_model(round, model, Inputs.of(self.pool))
        metrics = {**trained.metrics, **reached, **self._score_metrics(round), **_class_counts(shown)}
        if self.config.source.grows:  # the test images as well, so that it matters how many there were
            metrics["test/images"] = float(len(self.pool.test))
        self.store.finish_round(self.id, round, metrics, seconds, labeled=len(labels))
        self.artifacts.forget_training(before=round)
        self.listen(
            "result", round=round, labels=len(labels), **{k: v for k, v in metrics.items() if k.count("/") == 1}
        )

    def labels(self, round: int) -> Mapping[str, int]:
        """What is learned from after a round: all labels so far.

        Of a pool that people change, those that stand, of images that are there.
        """
        if not self.config.source.grows:
            return self.store.labels(self.id, through=round)
        later = {id for r in self.store.rounds(self.id) if r.round > round for id in self.store.asked(self.id, r.round)}
        labels = {id: value for id, value in self.store.labels(self.id).items() if id not in later}
        if self._standing is None:
            self._standing = self.pool.has({label.sample_id for label in self.oracle.answers()})
        return {id: value for id, value in labels.items() if id in self._standing}

    def _sizes(self) -> list[int]:
        """How many samples each round asks for; of a pool that people change, as many as there are."""
        protocol = self.config.protocol
        if not self.config.source.grows:
            return protocol.sizes(len(self.pool))
        asked = [len(self.store.asked(self.id, r.round)) for r in self.store.rounds(self.id)]
        taken = {id for r in range(len(asked)) for id in self.store.asked(self.id, r)}
        taken |= self.store.set_aside_ids(self.id) | set(self.store.labels(self.id))
        free, sizes = len(self.pool) - len(self.pool.has(taken)), list(asked)
        for size in protocol.sizes(sys.maxsize)[len(asked) :]:
            if free > 0:
                sizes.append(min(size, free))
            free -= size
        return sizes

    @property
    def strategy(self) -> Strategy:
        return self.config.strategy

    def begin(self) -> None:
        """Records the run, or makes sure that the recorded one is this one."""
        config = to_json(self.config)
        if self.features is not None:
            config["features_sha256"] = digest(self.features, self.pool.images.ids)
        if self.weights is not None:
            config["weights_sha256"] = self.weights.sha256
        if self.pool.masks is not None:  # a label is then the number of a mask: whoever reads the store must know
            config["task"] = self.pool.task.name
        config[LENDS] = lends(self.strategy)
        for name, given in (("groups", self.batches.groups), ("costs", self.batches.costs)):
            if given is not None:
                config[f"{name}_sha256"] = hashlib.sha256(repr(sorted(given.items())).encode()).hexdigest()
        record = RunRecord(
            self.id, self.plan.recipe, self.plan.scale, self.plan.strategy_name, self.plan.seed, dict(self.plan.overrides),
            config, self.pool.classes, len(self.pool), self.pool.fingerprint, [*self.config.notes, *self.pool.notes],
        )  # fmt: skip
        before = self.store.run(self.id)
        self.models.check()
        if before is None:
            # What cannot be decoded now may be whole tomorrow, where people change the images.
            self.store.add_run(record, () if self.config.source.grows else self.pool.quarantine)
        elif self.config.source.grows:
            refuse_changes(grown(before, record), record, self.config, self.store.path)
            self.store.extend_run(record)
        else:
            refuse_changes(before, record, self.config, self.store.path)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Records that this process works on the run, with what, and how it ended."""
        now = environment(self.numerics, self.trainer.count, self.trainer.where)
        before = self.store.last_environment(self.id)
        changed = differences(before, now) if before else []
        if changed:
            self.listen(
                "notice", text=f"continued with another environment, last bits may differ: {', '.join(changed)}"
            )
        number = self.store.begin_session(self.id, now)
        try:
            yield
        except (KeyboardInterrupt, BrokenPipeError):  # the second: whoever read the output has gone
            self.store.end_session(number, "stopped")
            raise
        except Exception as error:
            with suppress(StoreError):  # on a full disk this fails too, and must not hide the first error
                self.store.end_session(number, f"{type(error).__name__}: {error}")
            raise
        self.store.end_session(number, self.outcome)

    def _look(self, model: Model | None, strategy: Strategy, round: int) -> Rows:
        labels = {} if model is None else self.labels(round - 1)
        return self.looking.rows(model, strategy, round, labels, self.plan.seed_of("measure", round))

    def _set_aside(self, images: Sequence[Quarantined]) -> None:
        self.store.set_aside(self.id, {image.id: image.reason for image in images})

    def _keep_heat(self, model: Model | None, strategy: Strategy, round: int, picks: Picks) -> None:
        """Of masks: where in the first picks the strategy saw what it picked them by, for the report."""
        shown = picks.ids[: self.config.gallery]
        if model is None or self.pool.masks is None or not shown:
            return
        positions = np.array([self.pool.position(id) for id in shown])
        training = self.config.training
        maps = heat(
            model, self.pool, positions, strategy, numerics=self.numerics, batch_size=training.measure_batch_size,
            window=training.window, seed=self.plan.seed_of("measure", round),
        )  # fmt: skip
        if maps is not None:
            self.artifacts.write_heat(round, heat_pictures(shown, maps))

    def _keep_scenes(self, model: Model, round: int) -> None:
        """Of masks: what the model predicts of a few test images, the same in every round and run, for the report."""
        test, chosen = self.pool.test, spread_out(len(self.pool.test), self.config.scenes)
        if test.masks is None or not len(chosen):
            return
        kept, training = scenes(test, chosen, self.pool.task), self.config.training
        said = predict(
            model, self.pool, chosen, numerics=self.numerics, batch_size=training.measure_batch_size, window=training.window
        )  # fmt: skip
        self.artifacts.write_scenes(kept)
        masks = {id: mask_picture(m, self.pool.task) for id, m in zip(kept, said.astype(np.uint8), strict=True)}
        self.artifacts.write_predictions(round, masks)

    def _score_metrics(self, round: int) -> Metrics:
        """Means of the scores that this round's picks were chosen by. MCDAL's labeled mean is the zero of Eq. 5."""
        rows = self.artifacts.read_scores(round, self.store.asked(self.id, round))
        if rows is None:
            return {}
        groups = {"labeled": rows.labeled, "unlabeled": ~rows.labeled, "picked": rows.picked}
        return {
            f"score/{name}_mean": float(rows.score[group].mean(dtype=np.float64))
            for name, group in groups.items()
            if group.any()
        }

    def _refuse_faults(self, answers: Sequence[Label]) -> None:
        _, size = self.pool.shape
        for label in answers:
            if fault := self.pool.task.fault(label.value, size):
                raise PoolError(f"{label.by} labeled {label.sample_id!r} {fault}; no label of this batch was taken")

    def _report_missing_classes(self, round: int, shown: Int[np.ndarray, " c"]) -> None:
        missing = [name for name, count in zip(self.pool.classes, shown.tolist(), strict=True) if not count]
        if missing:
            named = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
            text = f"round {round}: no label yet of {len(missing)} of {len(self.pool.classes)} classes: {named}"
            self.listen("notice", text=text)


def _class_counts(shown: Int[np.ndarray, " c"]) -> Metrics:
    """How many classes have a label, and the number of labels of the smallest and largest of those."""
    counts = shown[shown > 0]
    return {
        "labels/classes": float(len(counts)),
        "labels/smallest": float(counts.min(initial=shown.max())),
        "labels/largest": float(counts.max(initial=0)),
    }


@contextmanager
def _naming(round: int) -> Iterator[None]:
    """Says in which round something went wrong."""
    try:
        yield
    except McdalError as error:
        raise type(error)(f"round {round}: {error}") from error


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    begun = time.monotonic()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.monotonic() - begun
