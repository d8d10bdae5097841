"""Model and strategy go to another process with all that `measure` needs, and say what stayed behind."""

import sys
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch

from mcdal.errors import SelectionError
from mcdal.measuring import measure
from mcdal.passes.travel import LeftBehind, pack, unpack
from mcdal.registry import load
from mcdal.strategies.base import Strategy
from mcdal.strategies.ensemble import Ensemble
from mcdal.strategies.margin import Margin
from mcdal.strategies.mcdal import MCDAL
from mcdal.testing import NUMERICS, FakeModel, fake_pool, fake_trained
from mcdal.values import Measurement

CPU = torch.device("cpu")


def test_the_strategy_holds_the_very_model_that_came_with_it():
    trained = fake_trained(MCDAL())
    model, strategy = unpack(pack(trained.model, trained.strategy), CPU)
    assert strategy._model is model
    assert isinstance(strategy._optimizer, LeftBehind)


@pytest.mark.slow  # the compiler takes seconds to import
def test_a_compiled_model_arrives_as_it_was_written():
    trained = fake_trained(Margin())
    trained.model.compile(dynamic=False)
    model, _ = unpack(pack(trained.model, trained.strategy), CPU)
    assert model._compiled_call_impl is None and trained.model._compiled_call_impl is not None
    x = torch.rand(2, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(model.eval()(x).logits, trained.model.eval().forward(x).logits)


def test_what_a_model_is_rebuilt_from_stays():
    model = FakeModel(3)
    model.rebuild = partial(fail, torch.zeros(10_000_000))
    content = pack(model, Margin())
    assert len(content) < 100_000
    assert unpack(content, CPU)[0].rebuild is None and model.rebuild is not None


def fail(_):
    raise AssertionError


@dataclass
class UsesItsBatches(Strategy):
    """Looks at a labeled batch while it measures, which only training has."""

    _batches: object = field(default=None, init=False, repr=False, compare=False)

    def attach(self, model, task, setting):
        self._setting, self._batches = setting, setting.labeled("mine", 0)

    def measure(self, batch):
        assert self._setting.channels == 3  # numbers of the setting travel
        reference = next(self._batches)
        return Measurement(score=(batch.x - reference.x[:1]).square().mean((1, 2, 3)))


def test_what_stayed_behind_is_named_when_it_is_used():
    trained = fake_trained(UsesItsBatches())
    model, strategy = unpack(pack(trained.model, trained.strategy), CPU)
    with pytest.raises(SelectionError, match="a strategy used its generator while it measured"):
        measure(model, fake_pool(20), {}, strategy, numerics=NUMERICS)


def test_what_cannot_travel_is_named():
    strategy = Margin()
    strategy.lock = __import__("threading").Lock()
    with pytest.raises(SelectionError, match="Margin with FakeModel cannot be sent to another process: cannot pickle"):
        pack(FakeModel(3), strategy)


def test_members_share_nothing_with_the_data():
    trained = fake_trained(Ensemble(members=2), pool=fake_pool(600))
    assert len(pack(trained.model, trained.strategy)) < 60_000


OWN = """
from dataclasses import dataclass
from mcdal.strategies.base import Strategy
from mcdal.values import Measurement
SCALE = 3.0
@dataclass
class Mine(Strategy):
    def measure(self, batch):
        return Measurement(score=SCALE * batch.output.logits[:, 0])
"""


def test_a_class_of_a_file_of_ones_own_travels_with_its_code(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    strategy = load("strategies", f"{tmp_path / 'own.py'}:Mine")()
    content = pack(FakeModel(3), strategy)
    (tmp_path / "own.py").unlink()
    del sys.modules[type(strategy).__module__]  # as in a process that has never seen it
    _, there = unpack(content, CPU)
    assert type(there).__name__ == "Mine"
    assert type(there).measure.__globals__["SCALE"] == 3.0
