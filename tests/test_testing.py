"""The contract must be able to fail: one broken strategy for each rule."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mcdal.errors import SelectionError
from mcdal.strategies.base import Strategy
from mcdal.testing import (
    check_continues,
    check_leaves_task_model_alone,
    check_picks_are_valid,
    check_rows,
    check_strategy,
)
from mcdal.values import Measurement, Picks


@dataclass
class Sound(Strategy):
    def attach(self, model, task, setting):
        self._model = model

    def measure(self, batch):
        return Measurement(score=-batch.output.logits.softmax(1).amax(1))


class MovesBatchNorm(Sound):
    def step(self, labeled, unlabeled, progress):
        with torch.no_grad():
            self._model(unlabeled.x)


class DependsOnTheBatch(Sound):
    def measure(self, batch):
        return Measurement(score=batch.output.logits[:, 0] - batch.output.logits[:, 0].mean())


class LeavesATrace(Sound):
    def measure(self, batch):
        self._model.head.bias.data += 1e-3
        return super().measure(batch)


class PicksByPosition(Sound):
    def select(self, rows, budget, seed):
        ids = rows.unlabeled().ids[:budget]
        return Picks(ids, np.zeros(len(ids)))


class PicksLabeled(Sound):
    def select(self, rows, budget, seed):
        ids = tuple(id for id, labeled in zip(rows.ids, rows.labeled, strict=True) if labeled)[:budget]
        return Picks(ids, np.zeros(len(ids)))


class PicksTwice(Sound):
    def select(self, rows, budget, seed):
        return Picks(rows.unlabeled().ids[:1] * budget, np.zeros(budget))


class PicksTooFew(Sound):
    def select(self, rows, budget, seed):
        return Picks(rows.unlabeled().ids[: budget - 1], np.zeros(budget - 1))


class Forgets(Sound):
    """A network of its own that is not in `state`."""

    def attach(self, model, task, setting):
        super().attach(model, task, setting)
        self._weight = torch.ones(1)

    def step(self, labeled, unlabeled, progress):
        self._weight += labeled.x.mean()

    def measure(self, batch):
        return Measurement(score=(batch.output.logits[:, 0] * 1e3 * self._weight).sin())


def test_a_sound_strategy_passes():
    check_strategy(Sound)


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (MovesBatchNorm, check_leaves_task_model_alone),
        (DependsOnTheBatch, check_rows),
        (LeavesATrace, check_rows),
        (PicksByPosition, check_picks_are_valid),
        (Forgets, check_continues),
    ],
)
def test_a_broken_strategy_is_caught(broken, check):
    with pytest.raises(AssertionError):
        check(broken)


@pytest.mark.parametrize(
    ("broken", "words"), [(PicksLabeled, "labeled already"), (PicksTwice, "twice"), (PicksTooFew, "7 were asked for")]
)
def test_bad_picks_are_refused_by_name(broken, words):
    with pytest.raises(SelectionError, match=words):
        check_picks_are_valid(broken)
