"""A committee, against networks trained one after the other in plain torch."""

import copy

import pytest
import torch
from torch.nn import functional as F

from mcdal.networks.committee import Committee
from mcdal.schedule import Optimization
from mcdal.tasks.classification import Classification
from mcdal.testing import FakeModel
from mcdal.values import Batch, Progress

STEPS = 4


def labeled(purpose, first):
    """Batches of random images that depend on the purpose and the number alone."""
    for number in range(first, 100):
        random = torch.Generator().manual_seed(1_000 * len(purpose) + 100 * int(purpose[-1]) + number)
        x = torch.randn(8, 3, 6, 6, generator=random).double()
        yield Batch(tuple("abcdefgh"), x, torch.randint(3, (8,), generator=random))


def committee(members=3):
    torch.manual_seed(0)
    model = FakeModel(3).double()
    model.encoder[-1].p = 0.0  # dropout would draw other numbers in the naive training
    task = Classification(tuple("abc"))
    return Committee(model, task, members, Optimization(lr=0.05), lambda module: module, labeled), model


def rates():
    return [0.05, 0.02, 0.01, 0.0]


def trained(made, first=0, last=STEPS):
    for step in range(first, last):
        made.step(Progress(step, STEPS, rates()[step]))
    return made


def test_each_member_learns_like_a_model_of_its_own():
    made, _ = committee()
    naive = copy.deepcopy(made.others)
    trained(made)
    for i, member in enumerate(naive):
        optimizer = torch.optim.SGD(member.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        for lr, batch in zip(rates(), labeled(f"member {i + 1}", 0), strict=False):
            optimizer.param_groups[0]["lr"] = lr
            optimizer.zero_grad()
            F.cross_entropy(member(batch.x).logits, batch.y).backward()
            optimizer.step()
    for ours, theirs in zip(made.others.state_dict().values(), naive.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_members_begin_different_and_see_different_batches():
    made, model = committee(members=4)
    heads = [model.head.weight, *(member.head.weight for member in made.others)]
    assert len(heads) == 4
    assert all(not torch.equal(a, b) for i, a in enumerate(heads) for b in heads[:i])
    firsts = [next(labeled(f"member {i}", 0)).x for i in (1, 2, 3)]
    seen = []
    for member in made.others:
        member.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    made.step(Progress(0, STEPS, 0.05))
    assert all(torch.equal(a, b) for a, b in zip(seen, firsts, strict=True))


def test_the_task_model_is_member_0_and_is_left_alone():
    made, model = committee()
    before = copy.deepcopy(model.state_dict())
    trained(made)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    x = torch.randn(5, 3, 6, 6).double()
    model.eval()
    with torch.no_grad():
        batch = Batch(tuple("abcde"), x, output=model(x))
        p = made.probabilities(batch)
        assert p.shape == (3, 5, 3)
        torch.testing.assert_close(p[0], model(x).logits.softmax(1))
        for said, member in zip(p[1:], made.others, strict=True):
            torch.testing.assert_close(said, member.eval()(x).logits.softmax(1))


@pytest.mark.parametrize("mode", [True, False])
def test_measuring_uses_test_time_statistics_whatever_the_mode_was(mode):
    made, model = committee()
    trained(made).others.train(mode)
    before = copy.deepcopy(made.others.state_dict())
    x = torch.randn(5, 3, 6, 6).double()
    model.eval()
    with torch.no_grad():
        batch = Batch(tuple("abcde"), x, output=model(x))
        whole = made.probabilities(batch)
        made.others.train(mode)
        first = made.probabilities(Batch(("a",), x[:1], output=model(x[:1])))
    torch.testing.assert_close(first[:, 0], whole[:, 0])
    assert all(torch.equal(value, before[name]) for name, value in made.others.state_dict().items())


def test_continued_from_its_state_it_is_the_same():
    whole = trained(committee()[0])
    half = trained(committee()[0], last=2)
    again = committee()[0]
    for name, part in again.state().items():
        part.load_state_dict(copy.deepcopy(half.state()[name].state_dict()))
    trained(again, first=2)
    for ours, theirs in zip(again.others.state_dict().values(), whole.others.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert again.metrics() == whole.metrics() != {}


def test_before_its_first_step_it_has_no_loss():
    assert committee()[0].metrics() == {}
