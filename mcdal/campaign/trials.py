"""While people label: what random labeling would have given, from models that learn from a random part of the labels.

Nobody waits for it: it begins when the next images are asked about, and gives way as soon as they are answered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcdal.artifacts import Artifacts
from mcdal.campaign.definition import Opened
from mcdal.campaign.ledger import plain
from mcdal.campaign.progress import finished_rounds, state
from mcdal.campaign.random_arm import Asked, asked, random_arm
from mcdal.campaign.wanted_trials import Arm, tried, wanted
from mcdal.campaign_tables import trials
from mcdal.checkpoint import Checkpoint
from mcdal.device import Numerics
from mcdal.dialects import insert_into
from mcdal.errors import McdalError
from mcdal.events import Listener, nobody
from mcdal.measuring import one_pass
from mcdal.models.base import Model
from mcdal.plan import Plan
from mcdal.pool.base import Pool, UnlabeledView
from mcdal.registry import load
from mcdal.streams import own_randomness, stream
from mcdal.training import train
from mcdal.windows import forward


class _FullError(Exception):
    """The round is answered: there is something better to do."""


@dataclass(frozen=True)
class Trials:
    """Those of one campaign. pool: its images of now."""

    campaign: Opened
    plan: Plan
    pool: Pool
    numerics: Numerics
    listen: Listener = nobody

    def play(self) -> bool:
        """All that are missing. False where it gave way, because people have answered what was asked."""
        done = tried(self.campaign)
        finished = finished_rounds(self.campaign)
        rows = asked(self.campaign)
        there = self.pool.has([row.sample_id for row in rows])
        rows = [row for row in rows if row.sample_id in there]
        try:
            for round in range(finished):
                for arm, repeat in wanted(self.campaign.campaign, round):
                    if (round, arm, repeat) not in done:
                        self._one(rows, round, arm, repeat)
        except _FullError:
            return False
        return True

    def _one(self, rows: list[Asked], round: int, arm: Arm, repeat: int) -> None:
        self._give_way()
        chosen = [row for row in rows if row.round <= round] if arm == "picked" else self._random(rows, round)
        labels = {row.sample_id: row.value for row in chosen if row.value is not None}
        said: dict[str, int] = {}
        if self._says_something_new(rows, round, arm, labels):
            try:
                model = (
                    self._kept(round) if (arm, repeat) == ("picked", 0) else self._trained(labels, round, arm, repeat)
                )
                said = {} if model is None else self._said(model)
            except (McdalError, RuntimeError) as error:  # it is only for comparison, and the campaign must go on
                self.listen("notice", text=f"round {round}: nothing to compare with, {arm} labels: {error}")
        self._record(round, arm, repeat, len(labels), said)
        self._state_of(round, arm, repeat).unlink(missing_ok=True)

    def _says_something_new(self, rows: list[Asked], round: int, arm: Arm, labels: Mapping[str, int]) -> bool:
        """Whether there are labels, and of the random ones more than a round before."""
        if arm == "picked" or not labels:
            return bool(labels)
        return len(self._random(rows, round - 1)) < len(self._random(rows, round))

    def _random(self, rows: list[Asked], round: int) -> list[Asked]:
        return random_arm(rows, len(self.pool), round, self.plan.seed, self.campaign.campaign.starts_at_random)

    def _state_of(self, round: int, arm: Arm, repeat: int) -> Path:
        return self.campaign.folder / "runs" / self.plan.run_id / f"trial_{round}_{arm}_{repeat}.pt"

    def _kept(self, round: int) -> Model | None:
        """The model of a round; None where it knew fewer classes than there are now."""
        model = self._built(round, 0)
        weights = Artifacts(self.campaign.folder / "runs" / self.plan.run_id).read_model(round)
        if weights is None or any(weights[name].shape != value.shape for name, value in model.state_dict().items()):
            return None
        model.load_state_dict(weights)
        return model

    def _trained(self, labels: Mapping[str, int], round: int, arm: Arm, repeat: int) -> Model:
        config, seed = self.plan.config, stream(self.plan.seed_of("trial", round), arm, repeat)
        model = self._built(round, repeat)
        train(
            model, self.pool, labels, load("strategies", "random")(), config.training, numerics=self.numerics, seed=seed,
            keeper=Checkpoint(self._state_of(round, arm, repeat), config.checkpoint_seconds), listen=self._listen,
        )  # fmt: skip
        return model

    def _built(self, round: int, repeat: int) -> Model:
        """The same weights for both arms of a repeat."""
        with own_randomness():
            torch.manual_seed(stream(self.plan.seed_of("trial", round), "init", repeat))
            return self.plan.config.model.build(len(self.pool.classes), *self.pool.shape)

    def _said(self, model: Model) -> dict[str, int]:
        """The class of each audit image, whether or not it has a label by now."""
        said: dict[str, int] = {}
        whole = UnlabeledView(self.pool.test.images, np.arange(len(self.pool.test.images)))
        self.numerics.place(model).eval()
        seen, batch_size = forward(model, None, stages=False), self.plan.config.training.measure_batch_size
        with own_randomness(), torch.inference_mode():
            for batch in one_pass(seen, self.pool, whole, self.numerics, batch_size, None):
                assert batch.output is not None
                said |= zip(batch.ids, batch.output.logits.argmax(1).tolist(), strict=True)
        return said

    def _record(self, round: int, arm: Arm, repeat: int, labels: int, predicted: Mapping[str, int]) -> None:
        row = {
            "campaign_id": self.campaign.name, "round": round, "arm": arm, "repeat": repeat, "labels": labels,
            "predicted": dict(predicted), "made_at": plain(datetime.now(UTC)),
        }  # fmt: skip
        with self.campaign.database.write() as connection:
            connection.execute(insert_into(connection, trials).on_conflict_do_nothing(), row)

    def _listen(self, _: str, **__: Any) -> None:
        self._give_way()

    def _give_way(self) -> None:
        if state(self.campaign) == "full":
            raise _FullError
