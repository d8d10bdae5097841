"""LL against the paper's loss written pair by pair, and against model and module trained by one common loss."""

import copy

import pytest
import torch
from torch.nn import functional as F

from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import select
from mcdal.models.base import count_parameters
from mcdal.models.resnet import ResNet
from mcdal.networks.loss_net import LossNet, ranking_loss
from mcdal.strategies.ll import LearningLoss
from mcdal.strategies.random import Random
from mcdal.tasks.classification import Classification
from mcdal.testing import (
    NUMERICS,
    FakeModel,
    KeepOne,
    assert_same,
    fake_pool,
    fake_setting,
    fake_trained,
    fake_training,
)
from mcdal.training import train
from mcdal.values import Batch, Output, Progress

LR = 0.05


def attached(model=None, **fields):
    torch.manual_seed(0)
    model = FakeModel(3).double() if model is None else model
    strategy = LearningLoss(**fields)
    strategy.attach(model, Classification(("a", "b", "c")), fake_setting(model))
    return strategy, model


def batch(n=7, seed=1):
    torch.manual_seed(seed)
    return Batch(tuple(map(str, range(n))), torch.randn(n, 3, 6, 6).double(), torch.randint(3, (n,)))


def naive_ranking_loss(predicted, losses, margin):
    """2/B sum over the pairs (i, B - 1 - i); the last of an odd batch is dropped first."""
    b = len(predicted) // 2 * 2
    total = 0.0
    for i in range(b // 2):
        j = b - 1 - i
        s = 1 if losses[i] > losses[j] else -1
        total += max(0.0, -s * (predicted[i] - predicted[j]) + margin)
    return 2 / b * total


@pytest.mark.parametrize("b", [2, 3, 6, 7, 12])
@pytest.mark.parametrize("margin", [1.0, 0.3])
def test_ranking_loss_is_the_sum_over_pairs(b, margin):
    random = torch.Generator().manual_seed(b)
    predicted = torch.randn(b, generator=random, dtype=torch.float64)
    losses = torch.rand(b, generator=random, dtype=torch.float64)
    losses[0] = losses[b // 2 * 2 - 1]  # a tie counts as s = -1
    expected = naive_ranking_loss(predicted.tolist(), losses.tolist(), margin)
    assert ranking_loss(predicted, losses, margin).item() == pytest.approx(expected, rel=1e-12)


def test_ranking_loss_by_hand():
    predicted, losses = torch.tensor([2.0, 0.0, 0.5, 0.0]), torch.tensor([9.0, 1.0, 2.0, 3.0])
    # (0, 3): s = 1, 1 - 2 -> 0. (1, 2): s = -1, 1 + (0 - .5) = .5. The mean of two pairs.
    assert ranking_loss(predicted, losses).item() == pytest.approx(0.25)


def test_no_gradient_goes_into_the_losses():
    predicted, losses = torch.zeros(4, requires_grad=True), torch.arange(4.0).requires_grad_()
    ranking_loss(predicted, losses).backward()
    assert losses.grad is None
    assert predicted.grad.tolist() == [0.5, 0.5, -0.5, -0.5]  # down: the smaller losses of the pairs (0, 3) and (1, 2)


def test_module_adds_123_905_parameters_to_resnet_18():
    strategy, model = attached(ResNet().build(10, 3, (32, 32)))
    assert [tap.in_features for tap in strategy._net.taps] == [64, 128, 256, 512]
    assert count_parameters(strategy._net) == 123_905
    assert count_parameters(model) + count_parameters(strategy._net) == 11_297_867


def test_module_is_pooling_linear_relu_of_each_stage_and_linear_of_all():
    torch.manual_seed(0)
    net = LossNet([2, 3], width=4).double()
    stages = [torch.randn(5, 2, 4, 4).double(), torch.randn(5, 3, 2, 2).double()]
    for i, said in enumerate(net(stages)):
        parts = [tap(s[i].flatten(1).mean(1)).clamp_min(0) for tap, s in zip(net.taps, stages, strict=True)]
        torch.testing.assert_close(said, net.out(torch.cat(parts))[0])


@pytest.mark.parametrize(("detach_after", "attached_steps"), [(0.6, 3), (0.0, 0), (1.0, 5)])
def test_model_and_module_descend_one_common_loss_until_the_stages_are_detached(detach_after, attached_steps):
    strategy, model = attached(weight=0.7, margin=0.4, detach_after=detach_after)
    model.encoder[-1].p = 0.0  # dropout would draw other numbers in the copy
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    naive, net = copy.deepcopy(model), copy.deepcopy(strategy._net)
    both = torch.optim.SGD([*naive.parameters(), *net.parameters()], lr=LR, momentum=0.9, weight_decay=5e-4)
    for step in range(5):
        given, lr = batch(seed=step), LR / (1 + step)
        optimizer.param_groups[0]["lr"] = both.param_groups[0]["lr"] = lr
        output = model(given.x)
        losses = F.cross_entropy(output.logits, given.y, reduction="none")
        extra = strategy.extra_loss(given.with_output(output), losses, Progress(step, 5, lr))
        optimizer.zero_grad()
        (losses.mean() + extra).backward()
        optimizer.step()

        output = naive(given.x)
        stages = output.stages if step < attached_steps else [s.detach() for s in output.stages]
        losses = F.cross_entropy(output.logits, given.y, reduction="none")
        ranking = 0.7 * ranking_loss(net(stages), losses, 0.4)
        both.zero_grad()
        (losses.mean() + ranking).backward()
        both.step()
        assert extra.item() == pytest.approx(ranking.item(), rel=1e-12)
        assert strategy.metrics()["train/ranking_loss"] == pytest.approx(ranking.item() / 0.7, rel=1e-12)
    ours = [*model.parameters(), *strategy._net.parameters()]
    for one, two in zip(ours, [*naive.parameters(), *net.parameters()], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-11, atol=1e-12)


def test_the_ranking_loss_reaches_the_model_before_60_percent_and_not_after():
    strategy, model = attached()
    for step, reaches in ((0, True), (59, True), (60, False), (99, False)):
        given = batch(seed=step)
        output = model(given.x)
        losses = F.cross_entropy(output.logits, given.y, reduction="none").detach()
        before = copy.deepcopy(strategy._net.state_dict())
        extra = strategy.extra_loss(given.with_output(output), losses, Progress(step, 100, LR))
        assert extra.item() > 0 and extra.requires_grad is reaches
        assert not torch.equal(strategy._net.out.weight, before["out.weight"])  # the module learns all the same
        if reaches:
            model.zero_grad()
            extra.backward()
            assert model.encoder[0].weight.grad.abs().max() > 0 and model.head.weight.grad is None


def test_detached_from_the_start_it_leaves_the_task_model_alone():
    random = fake_trained(Random()).model.state_dict()
    assert_same(fake_trained(LearningLoss(detach_after=0.0)).model.state_dict(), random, "differs from Random's")
    changed = fake_trained(LearningLoss())
    assert changed.strategy.changes_task_model
    assert not torch.equal(changed.model.state_dict()["encoder.0.weight"], random["encoder.0.weight"])


def test_the_module_learns_where_nothing_is_unlabeled():
    def trained(keeper=None):
        pool, strategy = fake_pool(), LearningLoss()
        torch.manual_seed(0)
        train(FakeModel(3), pool, pool.truth(), strategy, fake_training(), numerics=NUMERICS, keeper=keeper)
        return strategy

    whole, keeper = trained(), KeepOne(after=5)
    buffers = [state["momentum_buffer"] for state in whole._optimizer.state_dict()["state"].values()]
    assert len(buffers) == 4 and all(buffer.abs().max() > 0 for buffer in buffers)
    trained(keeper)
    assert_same(trained(keeper)._net.state_dict(), whole._net.state_dict(), "the continued module differs")


def test_the_module_learns_the_order_of_losses():
    """Losses that grow with the first channel of the stage."""
    strategy, _ = attached(width=16)

    def given(maps):
        output = Output(torch.zeros(len(maps), 3).double(), maps.mean((2, 3)), (maps,))
        return Batch(tuple(map(str, range(len(maps)))), maps[:, :3], output=output)

    torch.manual_seed(3)
    for step in range(150):
        maps = torch.randn(16, 5, 2, 2).double()
        strategy.extra_loss(given(maps), maps[:, 0].mean((1, 2)), Progress(step, 150, LR))
    maps = torch.zeros(9, 5, 2, 2).double()
    maps[:, 0] = torch.linspace(-1, 1, 9)[:, None, None]
    assert strategy.measure(given(maps)).score.argsort().tolist() == list(range(9))


def test_picks_are_the_largest_predicted_losses():
    trained = fake_trained(LearningLoss())
    rows = trained.rows()
    score = dict(zip(rows.ids, rows.score.tolist(), strict=True))
    free = [id for id, known in zip(rows.ids, rows.labeled, strict=True) if not known]
    picks = select(trained.strategy, rows, 5)
    assert picks.ids == tuple(sorted(free, key=lambda id: -score[id])[:5])
    assert picks.score[0] > picks.score[-1]


class NoStages(FakeModel):
    def forward(self, x):
        output = super().forward(x)
        return Output(output.logits, output.features)


class Tokens(FakeModel):
    def forward(self, x):
        output = super().forward(x)
        return Output(output.logits, output.features, (output.stages[0].flatten(2),))


@pytest.mark.parametrize(
    ("kind", "why"), [(NoStages, "NoStages gives no stages"), (Tokens, "stages that are not maps")]
)
def test_a_model_without_maps_of_stages_is_refused(kind, why):
    with pytest.raises(ConfigError, match=why):
        attached(kind(3))


def test_attaching_leaves_no_trace_in_the_model():
    model = FakeModel(3)
    before = copy.deepcopy(model.state_dict())
    attached(model.train())
    assert_same(model.state_dict(), before, "attaching moved the model's statistics")


def test_a_batch_of_one_is_refused():
    strategy, model = attached()
    given = batch(1)
    with pytest.raises(ConfigError, match=r"training.batch_size = 1"):
        strategy.extra_loss(given.with_output(model(given.x)), torch.zeros(1).double(), Progress(0, 1, LR))


@pytest.mark.parametrize(
    "fields",
    [{"weight": 0.0}, {"weight": float("nan")}, {"margin": -1.0}, {"detach_after": 1.5}, {"width": 0}, {"beta": -1.0}],
)
def test_bad_fields_are_refused(fields):
    (name,) = fields
    with pytest.raises(ConfigError, match=f"strategy.{name} = {fields[name]}"):
        LearningLoss(**fields)


def test_measuring_before_training_is_an_error():
    given = batch()
    with pytest.raises(SelectionError, match="train with this object first"):
        LearningLoss().measure(given.with_output(FakeModel(3).double()(given.x)))
    assert LearningLoss().state() == {} and LearningLoss().metrics() == {}
