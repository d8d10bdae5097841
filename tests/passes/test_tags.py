"""What tells stale files: every change that may change a row is seen, and nothing that a pass, or a kill, leaves behind."""

import copy
import sys
import textwrap
import threading
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn

from mcdal.errors import ConfigError
from mcdal.models.wrap import wrap
from mcdal.passes.tags import common_tags, identity
from mcdal.registry import load
from mcdal.strategies.base import Strategy
from mcdal.strategies.margin import Margin
from mcdal.testing import NUMERICS, FakeModel, KeepOne, fake_pool, fake_setting, fake_trained, fake_training
from mcdal.training import take_over
from mcdal.twins import may_take_over
from mcdal.values import Measurement
from tests.strategies.test_contract import EVERY

QUICK = ("ll", "vaal", "mc_dropout", "margin")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in EVERY])
def test_a_strategy_is_the_same_after_training_and_after_a_kill(name):
    trained = fake_trained(EVERY[name](), keeper := KeepOne(after=10**6))
    mine = identity(trained.model, trained.strategy)
    again = fake_trained(EVERY[name](), keeper)
    assert keeper.state["step"] == fake_training().steps
    assert identity(again.model, again.strategy) == mine
    if may_take_over(again.strategy):
        model, strategy = FakeModel(len(trained.pool.classes)), EVERY[name]()
        take_over(
            model, trained.model.state_dict(), trained.pool, trained.labels, strategy, fake_training(),
            numerics=NUMERICS, seed=0,
        )  # fmt: skip
        assert identity(model, strategy) == mine


NETWORK = """
    from torch import nn

    class Scale(nn.Module):
        def __init__(self, by=2.0):
            super().__init__()
            self.by = by

        def forward(self, x):
            return {body}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.head = Scale(), nn.Linear(12, 3)

        def forward(self, x):
            return self.head(self.scale(x.flatten(1)))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of somebody's own with this text."""
    monkeypatch.syspath_prepend(tmp_path)

    def imported(text, name):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return import_module(name)

    yield imported
    for name in [n for n in sys.modules if n.startswith("own_net_")]:
        del sys.modules[name]


def test_a_module_of_ones_own_whose_forward_was_edited(own):
    def net(body, name):
        torch.manual_seed(0)
        return wrap(own(NETWORK.replace("{body}", body), name).Net())

    first = identity(net("self.by * x", "own_net_one"), Margin())
    assert identity(net("self.by * x", "own_net_two"), Margin()) == first
    assert identity(net("self.by * x.abs()", "own_net_three"), Margin()) != first


def test_numbers_of_a_module_and_of_a_model_of_ones_own(own):
    model = wrap(own(NETWORK.replace("{body}", "self.by * x"), "own_net_four").Net())
    mine = identity(model, Margin())
    model.module.scale.by = 3.0
    other = identity(model, Margin())
    model.module.scale.means = [torch.zeros(2)]
    third = identity(model, Margin())
    model.module.scale.lock = threading.Lock()
    assert len({mine, other, third}) == 3 and identity(model, Margin()) == third

    class Mine(FakeModel):
        temperature = 1.0

    own_model = Mine(3)
    mine = identity(own_model, Margin())
    own_model.temperature = 2.0
    assert identity(own_model, Margin()) != mine


def test_buffers_that_no_state_keeps():
    model = FakeModel(3)
    model.register_buffer("shift", torch.zeros(3), persistent=False)
    mine = identity(model, Margin())
    model.shift += 1
    assert identity(model, Margin()) != mine


@dataclass
class Holds(Strategy):
    what: object = None
    _last: object = field(default=None, init=False)

    def measure(self, batch):
        return Measurement(score=batch.output.logits[:, 0])


@dataclass
class Cost:
    price: float
    names: dict[str, int]


class Plain:
    def __init__(self, weight):
        self.weight = weight

    def __call__(self, x):
        return x * self.weight


def module(value):
    found = nn.Linear(2, 1)
    nn.init.constant_(found.weight, value)
    nn.init.zeros_(found.bias)
    return found


def times(by):
    return lambda x: x * by


DIFFERENT = {
    "lists": ([1.0, [2, 3]], [1.0, [2, 4]]),
    "types": ([1], (1,)),
    "dicts": ({"a": 1, "b": 2}, {"a": 1, "b": 3}),
    "sets": ({"a", "b"}, {"a", "c"}),
    "arrays": (np.arange(3), np.arange(3).astype(float)),
    "tensors": (torch.zeros(2), torch.ones(2)),
    "functions": (lambda x: x + 1, lambda x: x + 2),
    "closures": (times(2), times(3)),
    "partials": (partial(max, 1), partial(max, 2)),
    "methods": (Plain(1).__call__, Plain(2).__call__),
    "objects": (Plain([1]), Plain([2])),
    "dataclasses": (Cost(1.0, {"a": 1}), Cost(1.0, {"a": 2})),
    "networks": (module(1.0), module(2.0)),
    "built in": (torch.relu, torch.tanh),
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_fields_of_every_kind(kind):
    model, (one, two) = FakeModel(3), DIFFERENT[kind]
    mine = identity(model, Holds(one))
    assert identity(model, Holds(one)) == mine != identity(model, Holds(two))
    if kind != "functions":
        assert identity(model, Holds(copy.deepcopy(one))) == mine


def test_dicts_in_another_order_are_the_same():
    model = FakeModel(3)
    assert identity(model, Holds({"a": 1, "b": 2})) == identity(model, Holds({"b": 2, "a": 1}))


def test_what_nobody_can_compare_is_refused_unless_it_is_told():
    model, strategy = FakeModel(3), Holds([threading.Lock()])
    with pytest.raises(ConfigError, match=r"strategy.what holds a lock, .* about=\{'what': ...\}"):
        identity(model, strategy)
    tags = common_tags(model, strategy, NUMERICS, 0, None, "float16", {"what": "a lock"})
    assert tags["what"] == "a lock"
    strategy._last = [torch.zeros(1)]
    assert common_tags(model, strategy, NUMERICS, 0, None, "float16", {"what": "a lock"}) == tags


def test_seeds_that_a_strategy_declares():
    strategy = load("strategies", "mc_dropout")()
    model = FakeModel(3)
    strategy.attach(model, fake_pool().task, fake_setting(model))
    mine = identity(model, strategy)
    strategy._draws._seed += 1
    assert identity(model, strategy) != mine
