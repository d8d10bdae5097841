"""A person's own module as a model, and errors that say what to name."""

import copy
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor, nn

from mcdal.errors import ConfigError
from mcdal.models.base import apply_head
from mcdal.models.small import SmallConv
from mcdal.models.wrap import Custom, wrap
from mcdal.values import Output

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Mine(nn.Module):
    """A network that returns what the test asks for."""

    def __init__(self, returns: str = "logits", classes: int = 3):
        super().__init__()
        self.returns = returns
        self.body = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout())
        self.fc = nn.Linear(5, classes)

    def forward(self, x: Tensor) -> Any:
        z = self.body(x)
        y = self.fc(z)
        return {"logits": y, "tuple": (y, z), "output": Output(y, z, (x,)), "softmax": y.softmax(1), "dict": {"y": y}}[
            self.returns
        ]


def own_network(classes: int) -> nn.Module:
    return Mine(classes=classes)


@pytest.mark.parametrize("returns", ["logits", "tuple", "output"])
def test_the_same_logits_and_features_whatever_it_returns(returns: str) -> None:
    mine = Mine(returns).eval()
    output = wrap(mine, "fc")(X)
    assert torch.equal(output.features, mine.body(X))
    assert torch.equal(output.logits, mine.fc(mine.body(X)))
    assert len(output.stages) == (returns == "output")


def test_dropout_before_the_head_is_in_the_features() -> None:
    model = wrap(Mine(), "fc")
    output = model(X)
    assert (output.features == 0).any()
    assert torch.equal(output.logits, apply_head(model.head, output.features))


def test_a_copy_has_its_own_head_and_no_hook_stays() -> None:
    model = wrap(Mine(), "fc").eval()
    before = model(X).logits
    before.sum().backward()
    copied = copy.deepcopy(model)
    nn.init.zeros_(copied.head.weight)
    assert torch.equal(copied(X).logits, copied.head.bias.expand(4, 3))
    assert torch.equal(model(X).logits, before)
    assert not model.head._forward_hooks
    assert not any(key.startswith("head") for key in model.state_dict())
    save(model.state_dict())  # refuses tensors that are there twice


def test_a_model_is_a_model_already() -> None:
    model = SmallConv(4).build(3, 3, (8, 8))
    assert wrap(model) is model


@pytest.mark.parametrize(
    ("module", "head", "complaint"),
    [
        (Mine(), None, "no submodule 'head': name the head; its layers are body.0, fc"),
        (Mine(), "classifier", "no submodule 'classifier'; its layers are body.0, fc"),
        (Mine(), "body.1", "'body.1' of Mine has no parameters"),
    ],
)
def test_a_head_that_is_not_there(module: nn.Module, head: str | None, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        wrap(module, head)


@pytest.mark.parametrize(("returns", "complaint"), [("softmax", "such as a softmax"), ("dict", "returns a dict")])
def test_what_a_module_may_not_return(returns: str, complaint: str) -> None:
    model = wrap(Mine(returns), "fc")
    with pytest.raises(ConfigError, match=complaint):
        model(X)
    assert not model.head._forward_hooks


def test_a_head_must_run_once() -> None:
    model = wrap(nn.Sequential(Mine()), "0.fc")
    shared = nn.Linear(3, 3)
    twice = wrap(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), shared, shared), "2")
    assert model(X).logits.shape == (4, 3)
    with pytest.raises(ConfigError, match="runs its head '2' 2 times"):
        twice(X)


@pytest.mark.parametrize(
    "factory",
    [
        own_network,
        lambda num_classes=1000: Mine(classes=num_classes),
        lambda: Mine(classes=6),
        f"{__name__}:own_network",
    ],
)
def test_a_factory_in_a_recipe(factory: Any) -> None:
    assert Custom(factory, head="fc").build(6, 3, (8, 8))(X).logits.shape == (4, 6)


def test_factories_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="gives 3 classes, the pool has 6"):
        Custom(Mine, head="fc").build(3, 3, (8, 8))
        Custom(lambda: Mine(), head="fc").build(6, 3, (8, 8))
    for where in ("nowhere:net", "mcdal.models.wrap:nothing", "nothing", ":"):
        with pytest.raises(ConfigError, match=r"package\.module:function"):
            Custom(where).build(6, 3, (8, 8))


def test_it_is_never_compiled() -> None:
    model = wrap(Mine(), "fc")
    model.compile()
    assert model._compiled_call_impl is None
