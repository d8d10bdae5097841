"""MCDAL against the paper's equations and the published order of updates, both written naively."""

import copy
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mcdal.errors import ConfigError
from mcdal.models.base import count_parameters
from mcdal.models.resnet import ResNet
from mcdal.networks.heads import LinearHeads, SeparateHeads, fresh_heads
from mcdal.selection import top
from mcdal.strategies.mcdal import MCDAL
from mcdal.tasks.classification import Classification
from mcdal.testing import FakeModel, fake_setting, fake_trained
from mcdal.values import Batch, Output, Progress

LR = 0.05


def attached(classes=4, **fields):
    torch.manual_seed(0)
    model = FakeModel(classes).double()
    strategy = MCDAL(**fields)
    strategy.attach(model, Classification(tuple("abcdefghij"[:classes])), fake_setting(model))
    strategy._heads.double()
    return strategy, model


def separate(heads):
    """The stacked heads as a list of linear layers."""
    layers = nn.ModuleList(nn.Linear(heads.weight.shape[2], heads.weight.shape[1]) for _ in heads.weight)
    for layer, weight, bias in zip(layers, heads.weight, heads.bias, strict=True):
        layer.weight, layer.bias = nn.Parameter(weight.detach().clone()), nn.Parameter(bias.detach()[0].clone())
    return layers


def batches(classes=4, seed=1):
    torch.manual_seed(seed)
    x, u = torch.randn(6, 3, 6, 6).double(), torch.randn(5, 3, 6, 6).double()
    y = torch.randint(classes, (6,))
    return Batch(tuple("abcdef"), x, y), Batch(tuple("ghijk"), u)


def naive_distance(p, q, kind):
    """d(p, q) of two probability vectors, one number at a time."""
    c = len(p)
    if kind == "l1":  # Eq. 3
        return sum(abs(p[i] - q[i]) for i in range(c)) / c
    if kind == "l2":
        return sum((p[i] - q[i]) ** 2 for i in range(c)) ** 0.5 / c
    kl = lambda a, b: sum(a[i] * (a[i] / b[i]).log() for i in range(c))  # noqa: E731
    return (kl(p, q) + kl(q, p)) / 2


def naive_scores(logits_of_all, kind):
    """Eq. 4: for each image, the sum of d over all pairs of heads."""
    p = [logits.softmax(1) for logits in logits_of_all]
    n = len(p[0])
    return torch.stack([sum(naive_distance(a[i], b[i], kind) for a, b in combinations(p, 2)) for i in range(n)])


@pytest.mark.parametrize("distance", ["l1", "l2", "kl"])
@pytest.mark.parametrize("heads", [2, 4, 6, 8])
def test_score_is_eq_3_and_4(distance, heads):
    strategy, model = attached(heads=heads, distance=distance)
    model.eval()
    labeled, _ = batches()
    with torch.no_grad():
        output = model(labeled.x)
        expected = naive_scores([output.logits, *(h(output.features) for h in separate(strategy._heads))], distance)
        score = strategy.measure(labeled.with_output(output)).score
    torch.testing.assert_close(score, expected, rtol=1e-12, atol=1e-12)


def test_two_heads_and_l1_are_the_three_terms_of_the_paper():
    p, p1, p2 = (torch.tensor([v]) for v in ([0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]))
    strategy, _ = attached(classes=3)
    said = Output(p.log(), torch.zeros(1, 5))
    strategy._heads.float()
    torch.nn.init.zeros_(strategy._heads.weight)
    strategy._heads.bias.data = torch.stack([p1, p2]).log()
    # |p1-p2| = .2+.5+.3, |p1-p| = .6+.6+0, |p2-p| = .4+.1+.3; each over C = 3
    expected = (1.0 + 1.2 + 0.8) / 3
    assert strategy.measure(Batch(("a",), torch.zeros(1, 3, 6, 6), output=said)).score.item() == pytest.approx(
        expected, rel=1e-6
    )


def test_eq_5_subtracts_a_constant_and_so_picks_the_same():
    rows = fake_trained(MCDAL()).rows()
    unlabeled, labeled_mean = rows.unlabeled(), rows.score[rows.labeled].mean()
    assert len(set(unlabeled.score.tolist())) > 10
    for budget in (1, 5, 20, len(unlabeled.ids)):
        d = top(unlabeled.ids, unlabeled.score, budget)
        s = top(unlabeled.ids, unlabeled.score - labeled_mean, budget)
        assert d.ids == s.ids
        np.testing.assert_allclose(s.score, d.score - labeled_mean)


def published_step(
    model,
    heads,
    optimizer,
    labeled_output,
    labeled,
    unlabeled,
    alg1=False,
    discrepancy=True,
    clean=True,
    weight=1.0,
    of_set=None,
):
    """Steps A and B of one iteration in plain torch, as the published code orders them. of_set: heads that are compared."""
    cross_entropy = lambda z: sum(F.cross_entropy(head(z), labeled.y) for head in heads)  # noqa: E731
    optimizer.zero_grad()
    cross_entropy(labeled_output.features).backward()
    optimizer.step()
    frozen = copy.deepcopy(model)  # an own copy, so that whatever the passes leave behind is lost
    with torch.no_grad():
        z = labeled_output.features if clean else frozen(labeled.x).features
        o_u = frozen(unlabeled.x)
    p = [head(o_u.features).softmax(1) for head in heads]
    sets = [p[first : first + (of_set or len(p))] for first in range(0, len(p), of_set or len(p))]
    pairs = [pair for each in sets for pair in combinations([o_u.logits.softmax(1), *each], 2)]
    l_dis = sum((a - b).abs().mean(1).mean() for a, b in pairs)
    loss = (0 if alg1 else cross_entropy(z)) - weight * l_dis if discrepancy else cross_entropy(z)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        ({}, {}),
        ({"heads": 4}, {}),
        ({"alg1": True}, {"alg1": True}),
        ({"discrepancy_loss": False}, {"discrepancy": False}),
        ({"published": True}, {"clean": False}),
        ({"weight": 4.0}, {"weight": 4.0}),
        ({"pairs": 3, "weight": 0.5}, {"of_set": 2, "weight": 0.5}),
    ],
    ids=["default", "4 heads", "alg1", "no discrepancy", "published", "weight", "3 pairs"],
)
def test_step_is_the_published_order_of_updates(fields, settings):
    settings = {"alg1": False, "discrepancy": True} | settings
    strategy, model = attached(**fields)
    model.encoder[-1].p = 0.0  # dropout would draw other numbers in the copy
    heads = separate(strategy._heads)
    optimizer = torch.optim.SGD(heads.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    for step in range(3):
        labeled, unlabeled = batches(seed=step)
        model.train()
        output = model(labeled.x).detach()
        published_step(model, heads, optimizer, output, labeled, unlabeled, **settings)
        strategy.step(labeled.with_output(output), unlabeled, Progress(step, 3, LR))
    for ours, naive in zip(separate(strategy._heads).parameters(), heads.parameters(), strict=True):
        torch.testing.assert_close(ours, naive, rtol=1e-12, atol=1e-12)


def test_head_steps_repeat_both_steps_on_the_same_batches():
    strategy, model = attached(head_steps=3)
    model.encoder[-1].p = 0.0
    heads = separate(strategy._heads)
    optimizer = torch.optim.SGD(heads.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    labeled, unlabeled = batches()
    passed = []
    output = model(labeled.x).detach()
    model.register_forward_pre_hook(lambda _module, args: passed.append(len(args[0])))
    strategy.step(labeled.with_output(output), unlabeled, Progress(0, 1, LR))
    assert passed == [len(unlabeled.x)]  # one pass serves all three
    for _ in range(3):
        published_step(model, heads, optimizer, output, labeled, unlabeled)
    for ours, naive in zip(separate(strategy._heads).parameters(), heads.parameters(), strict=True):
        torch.testing.assert_close(ours, naive, rtol=1e-12, atol=1e-12)


def test_pairs_score_the_mean_of_their_discrepancies():
    strategy, model = attached(pairs=2, heads=3)
    model.eval()
    labeled, _ = batches()
    with torch.no_grad():
        output = model(labeled.x)
        said = [head(output.features) for head in separate(strategy._heads)]
        each = [naive_scores([output.logits, *said[first : first + 3]], "l1") for first in (0, 3)]
        score = strategy.measure(labeled.with_output(output)).score
    torch.testing.assert_close(score, (each[0] + each[1]) / 2, rtol=1e-12, atol=1e-12)


def test_the_heads_begin_further_apart_with_a_larger_gain():
    (plain, _), (wide, _) = attached(), attached(init_gain=5.0)
    torch.testing.assert_close(wide._heads.weight, 5 * plain._heads.weight)
    torch.testing.assert_close(wide._heads.bias, 5 * plain._heads.bias)


def test_step_maximizes_the_discrepancy_on_unlabeled_images():
    strategy, model = attached(alg1=True)
    labeled, unlabeled = batches()
    model.train()
    output = model(labeled.x).detach()
    seen = []
    for step in range(60):
        strategy.step(labeled.with_output(output), unlabeled, Progress(step, 60, 0.5))
        seen.append(strategy.metrics()["train/discrepancy"])
    assert seen[-1] > seen[0] + 0.1
    assert max(seen) <= 6 / 4  # at most 6/C


def test_clean_leaves_no_trace_and_published_moves_batch_norm():
    for published in (False, True):
        strategy, model = attached(published=published)
        model.train()
        labeled, unlabeled = batches()
        output = model(labeled.x).detach()
        before = copy.deepcopy(model.state_dict())
        strategy.step(labeled.with_output(output), unlabeled, Progress(0, 1, LR))
        changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
        moved = ["encoder.1.running_mean", "encoder.1.running_var", "encoder.1.num_batches_tracked"]
        assert changed == (moved if published else [])
        tracked = model.state_dict()[moved[-1]] - before[moved[-1]]
        assert tracked == (2 if published else 0)  # the second labeled pass and the unlabeled one
        assert all(p.grad is None for p in model.parameters())
        assert strategy.changes_task_model is published


def test_the_labeled_images_pass_once():
    """Clean mode: the features of the one labeled forward serve both steps of the heads."""
    strategy, model = attached()
    labeled, unlabeled = batches()
    output = model(labeled.x).detach()
    passed = []
    model.register_forward_pre_hook(lambda _module, args: passed.append(len(args[0])))
    strategy.step(labeled.with_output(output), unlabeled, Progress(0, 1, LR))
    assert passed == [len(unlabeled.x)]


def test_the_backward_pass_is_in_full_precision_whatever_the_autocast_around():
    strategy, model = attached()
    labeled, unlabeled = batches()
    output, seen = model(labeled.x).detach(), []
    for p in strategy.state()["heads"].parameters():
        p.register_hook(lambda _: seen.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", torch.bfloat16):
        strategy.step(labeled.with_output(output), unlabeled, Progress(0, 1, LR))
    assert seen and not any(seen)


def test_heads_of_another_kind_than_linear_do_the_same_one_by_one():
    strategy, model = attached(heads=3)
    other, same = attached(heads=3)
    same.head = nn.Sequential(same.head)
    for each in (model, same):
        each.encoder[-1].p = 0.0
    other._heads = SeparateHeads([nn.Sequential(layer) for layer in separate(strategy._heads)])
    other._optimizer = torch.optim.SGD(other._heads.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    for step in range(3):
        labeled, unlabeled = batches(seed=step)
        output = model(labeled.x).detach()
        for each in (strategy, other):
            each.step(labeled.with_output(output), unlabeled, Progress(step, 3, LR))
    for ours, layer in zip(separate(strategy._heads), other._heads.heads, strict=True):
        torch.testing.assert_close(ours.weight, layer[0].weight)
        torch.testing.assert_close(ours.bias, layer[0].bias)
    assert isinstance(fresh_heads(same, 2), SeparateHeads) and isinstance(fresh_heads(model, 2), LinearHeads)


def test_heads_add_2_x_5130_parameters():
    model = ResNet().build(10, 3, (32, 32))
    strategy = MCDAL()
    strategy.attach(model, Classification(tuple("abcdefghij")), fake_setting(model))
    assert count_parameters(strategy._heads) == 2 * 5_130
    assert count_parameters(model) + count_parameters(strategy._heads) == 11_184_222


def test_heads_begin_different_from_each_other_and_from_the_model():
    strategy, model = attached()
    weights = [model.head.weight, *strategy._heads.weight]
    for one, two in combinations(weights, 2):
        assert not torch.equal(one, two)


def test_the_heads_follow_the_learning_rate_of_the_model():
    strategy, model = attached()
    labeled, unlabeled = batches()
    before = copy.deepcopy(strategy._heads.state_dict())
    strategy.step(labeled.with_output(model(labeled.x).detach()), unlabeled, Progress(0, 1, 0.0))
    for name, value in strategy._heads.state_dict().items():
        assert torch.equal(value, before[name])


def test_one_head_is_refused():
    with pytest.raises(ConfigError, match=r"strategy.heads = 1"):
        MCDAL(heads=1)


@pytest.mark.parametrize("fields", [{"weight": -1.0}, {"head_steps": 0}, {"pairs": 0}, {"init_gain": 0.0}])
def test_fields_out_of_range_are_refused(fields):
    (name,) = fields
    with pytest.raises(ConfigError, match=f"strategy.{name} = "):
        MCDAL(**fields)
