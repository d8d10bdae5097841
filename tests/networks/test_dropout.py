"""Monte-Carlo dropout, against passes written one mask and one sample at a time."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mcdal.errors import ConfigError, SelectionError
from mcdal.models.base import Model, apply_head
from mcdal.models.small_segmentation import SmallSegmentation
from mcdal.networks import dropout
from mcdal.networks.dropout import MonteCarloDropout
from mcdal.tasks.classification import Classification
from mcdal.testing import FakeModel
from mcdal.uncertainty import entropies, mutual_information, predictive_entropy
from mcdal.values import Batch, Output

TASK = Classification(tuple("abc"))


class Plain(Model):
    """A head on given features, which come as images of one row."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, x):
        features = x.flatten(1)
        return Output(apply_head(self.head, features), features)


class Layered(Model):
    """An encoder of the test's own layers, the mean over space and a head."""

    def __init__(self, *layers):
        super().__init__()
        self.encoder = nn.Sequential(*layers)
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        features = self.encoder(x).mean((2, 3))
        return Output(apply_head(self.head, features), features)


def attached(model, passes=6, rate=0.5, seed=0):
    torch.manual_seed(seed)
    draws = MonteCarloDropout(passes, rate)
    draws.attach(model.double().eval(), TASK)
    return draws


def identity_head(width):
    head = nn.Linear(width, width)
    with torch.no_grad():
        nn.init.eye_(head.weight)
        head.bias.zero_()
    return head


def batch_of(model, x, y=None):
    ids = tuple(f"{i}" for i in range(len(x)))
    with torch.no_grad():
        return Batch(ids, x, y, model(x))


def masks_of(draws, width):
    """The masks that `draws` uses, read from what a head that is the identity says of features that are 1."""
    said = draws._head_passes(torch.ones(1, width).double(), draws.rate)
    return said[:, 0]


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_a_mask_keeps_or_drops_and_scales(rate):
    masks = masks_of(attached(Plain(identity_head(400)), passes=25, rate=rate), 400)
    assert set(masks.unique().tolist()) == {0.0, 1 / (1 - rate)}
    dropped = (masks == 0).double().mean().item()
    assert abs(dropped - rate) < 4 * (rate * (1 - rate) / masks.numel()) ** 0.5
    assert len({tuple(mask.tolist()) for mask in masks}) == 25  # every pass has its own


def test_passes_are_the_head_under_each_mask():
    model = Plain(nn.Linear(7, 3))
    draws = attached(model)
    masks = masks_of(attached(Plain(identity_head(7))), 7)  # the same seed: the same masks
    batch = batch_of(model, torch.randn(5, 1, 1, 7).double())
    p = draws.probabilities(batch)
    assert p.shape == (6, 5, 3)
    for t, mask in enumerate(masks):
        for i, z in enumerate(batch.output.features):
            expected = (model.head.weight @ (z * mask) + model.head.bias).softmax(0)
            torch.testing.assert_close(p[t, i], expected, rtol=1e-12, atol=1e-12)


class Other(nn.Linear):
    """What is not known to be linear: its features are dropped, and not its weights."""


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("classes", [1, 3, 40])
def test_dropped_weights_say_what_dropped_features_say(classes, bias):
    model, other = Plain(nn.Linear(7, classes, bias)), Plain(Other(7, classes, bias))
    other.head.load_state_dict(model.head.state_dict())
    x = torch.randn(50, 1, 1, 7).double()
    p, expected = (attached(given).probabilities(batch_of(given, x)) for given in (model, other))
    torch.testing.assert_close(p, expected, rtol=1e-12, atol=1e-12)
    few = attached(model).probabilities(batch_of(model, x[:2]))  # fewer features than weights
    torch.testing.assert_close(few, expected[:, :2], rtol=1e-12, atol=1e-12)


def test_a_few_passes_at_once_are_the_same_passes(monkeypatch):
    model = Plain(nn.Linear(7, 3))
    draws = attached(model)
    batch = batch_of(model, torch.randn(5, 1, 1, 7).double())
    together = draws.probabilities(batch)
    monkeypatch.setattr(dropout, "AT_ONCE", 2 * 5 * 7)
    torch.testing.assert_close(draws.probabilities(batch), together, rtol=1e-12, atol=1e-12)


def test_a_map_loses_whole_channels():
    model = Plain(nn.Conv2d(4, 3, 1))
    draws = attached(model)
    maps = torch.randn(2, 4, 3, 5).double()
    said = Output(apply_head(model.head, maps), maps)
    p = draws.probabilities(Batch(("a", "b"), torch.empty(2, 0, 0, 0), output=said))
    assert p.shape == (6, 2, 3, 3, 5)
    masks = masks_of(attached(Plain(identity_head(4))), 4)
    expected = torch.stack([model.head(maps * mask[:, None, None]).softmax(1) for mask in masks])
    torch.testing.assert_close(p, expected, rtol=1e-12, atol=1e-12)


def test_maps_are_judged_draw_by_draw_as_all_at_once():
    torch.manual_seed(2)
    model = SmallSegmentation(2).build(3, 3, (16, 24))
    draws, x = attached(model), torch.randn(2, 3, 16, 24).double()
    batch = batch_of(model, x)
    together = draws.probabilities(batch)
    outer, mutual = entropies(draws.one_by_one(batch))
    torch.testing.assert_close(outer, predictive_entropy(together), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(mutual, mutual_information(together), rtol=1e-8, atol=1e-12)
    assert mutual.shape == (2, 16, 24)
    assert mutual.max() > 0


def test_the_seed_decides_and_bfloat16_features_are_widened():
    model = Plain(nn.Linear(7, 3))
    batch = batch_of(model.double(), torch.randn(5, 1, 1, 7).double())
    one, same, other = (attached(model, seed=seed).probabilities(batch) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    narrow = Output(batch.output.logits, batch.output.features.bfloat16())
    assert attached(model).probabilities(batch.with_output(narrow)).dtype is torch.float64


OWN = {
    "dropout": lambda: [nn.Dropout(0.4)],
    "channels": lambda: [nn.Dropout2d(0.4)],
    "alpha": lambda: [nn.AlphaDropout(0.4)],
    "in place": lambda: [nn.Dropout(0.4, inplace=True)],
    "twice": lambda: [shared := nn.Dropout(0.3), nn.Tanh(), shared],
    "two": lambda: [nn.Dropout(0.3), nn.Tanh(), nn.Dropout(0.5)],
}


@pytest.mark.parametrize("kind", OWN)
def test_own_layers_are_drawn_once_a_pass_for_all_samples(kind):
    torch.manual_seed(3)
    model = Layered(nn.BatchNorm2d(3), *OWN[kind]())
    draws = attached(model, rate=None)
    x = torch.randn(1, 3, 4, 4).double().expand(5, -1, -1, -1).clone()
    p = draws.probabilities(batch_of(model, x))
    for pass_ in p:  # equal images: equal answers
        torch.testing.assert_close(pass_, pass_[:1].expand(5, -1), rtol=1e-12, atol=1e-12)
    assert len({tuple(pass_[0].tolist()) for pass_ in p}) == 6
    x = torch.randn(5, 3, 4, 4).double()
    whole = draws.probabilities(batch_of(model, x))
    alone = torch.cat([draws.probabilities(batch_of(model, x[i : i + 1])) for i in range(5)], dim=1)
    torch.testing.assert_close(whole, alone, rtol=1e-12, atol=1e-12)
    assert draws.extra_loss(batch_of(model, x, torch.zeros(5).long()), torch.zeros(5)) is None


def test_own_layers_give_what_they_give_in_training():
    """One sample and one layer: the pass is a training pass of that layer, drawn from some mask."""
    model = Layered(nn.Dropout(0.4))
    draws = attached(model, rate=None)
    x = torch.randn(1, 3, 4, 4).double()
    batch = batch_of(model, x)
    for t, p in enumerate(draws.probabilities(batch)):
        scale, shift = draws._known[(t, "encoder.0", 1, 3, 4, 4, x.dtype, x.device)]
        torch.testing.assert_close(p, model.head((x * scale).mean((2, 3))).softmax(1), rtol=1e-12, atol=1e-12)
        assert not shift.any()
        assert set(scale.unique().tolist()) <= {0.0, 1 / 0.6}


@pytest.mark.parametrize("rate", [0.5, None])
def test_measuring_leaves_no_trace(rate):
    model = FakeModel(3)
    draws = attached(model, rate=rate)
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(5, 3, 6, 6).double()
    told = batch_of(model, x)
    random = torch.get_rng_state()
    draws.probabilities(told)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(part.training or part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert torch.equal(model(x).logits, told.output.logits)


def test_training_descends_the_loss_under_dropout():
    model = Plain(nn.Linear(7, 3))
    draws = attached(model, rate=0.3)
    model.train()
    x, y = torch.randn(8, 1, 1, 7).double(), torch.arange(8) % 3
    output = model(x)
    losses = TASK.losses(output.logits, y)
    torch.manual_seed(5)
    extra = draws.extra_loss(Batch(tuple("abcdefgh"), x, y, output), losses)
    gradient = torch.autograd.grad(losses.mean() + extra, model.head.weight)[0]
    torch.manual_seed(5)
    keep = torch.rand(8, 7, dtype=torch.float64) >= 0.3
    assert len({tuple(row.tolist()) for row in keep}) > 4  # a mask a sample
    expected = F.cross_entropy(model.head(x.flatten(1) * keep / 0.7), y)
    torch.testing.assert_close(losses.mean() + extra, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, model.head.weight)[0], rtol=1e-12, atol=1e-12)


def test_attaching_twice_is_attaching_once():
    model = FakeModel(3)
    draws = attached(model)
    draws.attach(model, TASK)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert draws.probabilities(batch_of(model, torch.randn(2, 3, 6, 6).double())).shape == (6, 2, 3)


def test_errors_say_what_to_give():
    with pytest.raises(
        ConfigError, match=r"strategy.dropout = null: Plain has no Dropout layer of its own; give a rate"
    ):
        attached(Plain(nn.Linear(7, 3)), rate=None)
    with pytest.raises(ConfigError, match=r"strategy.dropout = null"):
        attached(Layered(nn.Dropout(0.0)), rate=None)
    with pytest.raises(ConfigError, match=r"strategy.passes = 1: at least 2"):
        MonteCarloDropout(1, 0.5)
    for rate in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(ConfigError, match=r"strategy.dropout = .*give a rate between 0 and 1"):
            MonteCarloDropout(25, rate)
    model = FakeModel(3).double().eval()
    with pytest.raises(SelectionError, match="train with this strategy first"):
        MonteCarloDropout(25, 0.5).probabilities(batch_of(model, torch.randn(2, 3, 6, 6).double()))
