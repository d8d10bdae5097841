"""A store filled with plausible runs, through the public methods of Store and Artifacts only."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mcdal.artifacts import Artifacts
from mcdal.pool.base import Quarantined
from mcdal.store import RunRecord, Store
from mcdal.values import Label, Picks, Rows

DIGITS = tuple(str(i) for i in range(10))
ENVIRONMENT = {
    "commit": "0123abc",
    "device": "cpu",
    "precision": "float32",
    "threads": 2,
    "versions": {"torch": "2.14.1"},
}


@dataclass
class Example:
    """One run to be. rounds: finished ones. open_round: one more is begun, half of its labels given."""

    strategy: str = "mcdal"
    seed: int = 0
    rounds: int = 4
    open_round: bool = False
    classes: Sequence[str] = DIGITS
    overrides: Mapping[str, str] | None = None
    notes: Sequence[str] = ("small scale: a tenth of the paper's steps",)
    recipe: str = "digits"
    scale: str = "small"
    pool: int = 600
    budget: int = 50
    outcomes: Sequence[str | None] = ("done",)
    quarantined: Sequence[Quarantined] = ()
    picture_side: int = 8
    task: str = ""

    @property
    def run_id(self) -> str:
        changed = "".join(f"-{k}={v}" for k, v in (self.overrides or {}).items())
        return f"{self.recipe}-{self.scale}-{self.strategy}{changed}-{self.seed}"

    def fill(self, out: Path) -> str:
        """Writes the run into the store of `out`; returns its id."""
        store = Store(out)
        store.add_run(self._record(), self.quarantined)
        for outcome in self.outcomes:
            session = store.begin_session(self.run_id, ENVIRONMENT)
            if outcome is not None:
                store.end_session(session, outcome)
        labeled: dict[str, int] = {}
        for round in range(self.rounds + self.open_round):
            self._round(store, Artifacts(out / "runs" / self.run_id), round, labeled)
        store.close()
        return self.run_id

    def _record(self) -> RunRecord:
        config = {
            "recipe": self.recipe,
            "seed": self.seed,
            "rounds": 3,
            "budget": self.budget,
            "source": {"name": "digits", "test_share": 0.2},
            "train": {"steps": 120, "optimizer": {"lr": 0.1, "momentum": 0.9, "milestones": [80, 110]}, "batch": 64},
            "strategy": {"name": self.strategy, "heads": 2, "distance": "l1", "published": False},
        }
        if self.task:
            config["task"] = self.task
        return RunRecord(
            run_id=self.run_id,
            recipe=self.recipe,
            scale=self.scale,
            strategy=self.strategy,
            seed=self.seed,
            overrides=self.overrides or {},
            config=config,
            classes=list(self.classes),
            pool_size=self.pool,
            data_fingerprint="f00d",
            notes=list(self.notes),
        )

    def _round(self, store: Store, artifacts: Artifacts, round: int, labeled: dict[str, int]) -> None:
        generator = np.random.default_rng([self.seed, round, len(self.strategy) if round else 0])
        ids = tuple(f"img/{i:05d}" for i in range(self.pool))
        scores = generator.gamma(2.0, 0.012 / (1 + 0.2 * round), self.pool) * np.where(
            [id in labeled for id in ids], 0.4, 1
        )
        scored = self.strategy != "random"
        if round:
            rows = Rows(ids, np.array([id in labeled for id in ids]), scores if scored else None)
            artifacts.write_rows(round, rows)
        key = scores if scored and round else generator.random(self.pool)
        free = [i for i in np.argsort(-key) if ids[i] not in labeled][: self.budget]
        picks = Picks(tuple(ids[i] for i in free), key[free])
        took = {"measure": 3.1, "select": 0.2} if round else {"select": 0.1}
        store.begin_round(self.run_id, round, 17 + round, picks, bool(round), took)
        unfinished = round == self.rounds
        answered = picks.ids[: self.budget // 2] if unfinished else picks.ids
        given = {id: int(generator.beta(1, 1.6) * len(self.classes)) for id in answered}
        store.add_labels(self.run_id, [Label(id, value, "simulated") for id, value in given.items()])
        labeled.update(dict.fromkeys(picks.ids, 0))
        artifacts.write_gallery(round, {id: self._picture(generator) for id in picks.ids[:16]})
        if not unfinished:
            seconds = {"ask": 0.4, "train": 40.0 + 9 * round, "test": 2.5}
            store.finish_round(self.run_id, round, self._metrics(generator, round), seconds)

    def _metrics(self, generator: np.random.Generator, round: int) -> dict[str, float]:
        head_start = 0.012 * min(round, 2) if self.strategy != "random" else 0.0
        accuracy = 0.96 - 0.17 * np.exp(-0.8 * round) + head_start + float(generator.normal(0, 0.004))
        each = {
            f"test/accuracy/{name}": float(np.clip(accuracy + generator.normal(0, 0.03), 0, 1)) for name in self.classes
        }
        return {
            "test/accuracy": float(accuracy),
            "test/balanced_accuracy": float(accuracy) - 0.006,
            "test/loss": float(1.2 - accuracy),
            "train/loss": 0.02 / (round + 1),
            "train/accuracy": 1.0,
            **each,
        }

    def _picture(self, generator: np.random.Generator) -> bytes:
        side = self.picture_side
        y, x = np.mgrid[:side, :side] / side - 0.5
        ring = np.exp(-((np.hypot(x, y * generator.uniform(0.6, 1.4)) - generator.uniform(0.1, 0.35)) ** 2) / 0.01)
        sink = io.BytesIO()
        Image.fromarray(np.uint8(255 * ring)).save(sink, "PNG")
        return sink.getvalue()


def two_strategies_two_seeds(out: Path) -> list[str]:
    """MCDAL and Random with seeds 0 and 1, four rounds each."""
    return [Example(strategy=strategy, seed=seed).fill(out) for strategy in ("mcdal", "random") for seed in (0, 1)]
