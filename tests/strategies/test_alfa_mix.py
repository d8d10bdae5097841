"""ALFA-Mix: candidates by the paper's closed form, one number at a time, with the gradient by autograd."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mcdal.errors import ConfigError, SelectionError
from mcdal.measuring import select
from mcdal.models.base import Model
from mcdal.selection.k_means import among_candidates
from mcdal.strategies.alfa_mix import ALFAMix, changed, class_means, least_epsilon, said_and_direction
from mcdal.tasks.classification import Classification
from mcdal.testing import FakeModel, fake_setting
from mcdal.values import Output, Rows


class Deep(Model):
    """A head that is not linear."""

    def __init__(self, d, classes):
        super().__init__()
        self.head = nn.Sequential(nn.Linear(d, 7), nn.Tanh(), nn.Linear(7, classes))

    def forward(self, x):
        return Output(self.head(x.mean((2, 3))), x.mean((2, 3)))


def attached(kind="linear", d=6, **fields):
    torch.manual_seed(0)
    model = (FakeModel(4, width=d) if kind == "linear" else Deep(d, 4)).double().eval()
    strategy = ALFAMix(**fields)
    strategy.attach(model, Classification(tuple("abcd")), fake_setting(model))
    return strategy, model


def rows(n=60, d=6, seed=0, classes=3):
    random = np.random.default_rng(seed)
    labeled = np.arange(n) < 20
    y = np.where(labeled, random.integers(classes, size=n), -1)
    ids = tuple(f"x{i:03d}" for i in random.permutation(n))
    return Rows(ids, labeled, vector=random.normal(size=(n, d)).astype(np.float32), y=y)


def naive_candidates(head, given, epsilon):
    """alpha as the paper writes it, elementwise, and the mix of features; the class of some mix differs."""
    d = given.vector.shape[1]
    found = []
    for z in torch.from_numpy(given.vector.astype(float)):
        z.requires_grad_()
        logits = head(z[None])
        said = int(logits.argmax())
        (g,) = torch.autograd.grad(F.cross_entropy(logits, torch.tensor([said])), z)
        answers = []
        for c in sorted(set(given.y[given.labeled].tolist())):
            members = [v for v, y in zip(given.vector.astype(float), given.y, strict=True) if y == c]
            anchor = torch.from_numpy(sum(members) / len(members))
            alpha = epsilon / d**0.5 * (anchor - z).norm() / g.norm() * g / (anchor - z)
            answers.append(int(head((alpha * anchor + (1 - alpha) * z)[None]).argmax()))
        found.append(any(a != said for a in answers))
    return np.array(found)


@pytest.mark.parametrize("kind", ["linear", "deep"])
@pytest.mark.parametrize("epsilon", [0.2, 0.6])
def test_candidates_are_those_of_the_closed_form(kind, epsilon):
    given = rows(n=200)
    _, model = attached(kind)
    found = changed(model.head, given.vector, class_means(given), epsilon, np.arange(200))
    expected = naive_candidates(model.head, given, epsilon)
    assert found.tolist() == expected.tolist()
    assert 0 < expected.sum() < 200
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("classes", [1, 2, 12])
@pytest.mark.parametrize("seed", range(5))
def test_a_linear_head_says_of_every_epsilon_at_once_what_one_step_after_the_other_says(classes, seed):
    torch.manual_seed(seed)
    head, given = nn.Linear(6, classes).double(), rows(n=1_500, seed=seed, classes=min(classes, 3))
    given.vector[40] = class_means(given)[0]
    asked, anchors = np.random.default_rng(seed).permutation(1_500)[:1_200], class_means(given)
    least = least_epsilon(head, given.vector, anchors, asked)
    for epsilon in (0.05, 0.2, 0.4, 1.0):
        expected = changed(head, given.vector, anchors, epsilon, asked)
        assert (least < epsilon).tolist() == expected.tolist()
        assert expected.any() == (classes > 1)


def test_equal_logits_change_at_once_and_equal_weights_never():
    head = nn.Linear(2, 3, bias=False).double()
    head.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]).double()
    vector = np.array([[1.0, 1.0], [1.0, -9.0], [3.0, 3.0]], dtype=np.float32)
    least = least_epsilon(head, vector, np.array([[3.0, 3.0]]), np.arange(3))
    assert least[0] == 0
    assert np.isfinite(least[1])
    assert not least[2] < 1  # there is no way to the only anchor
    same = nn.Linear(2, 3).double()
    same.weight.data, same.bias.data = torch.ones(3, 2).double(), torch.zeros(3).double()
    assert not (least_epsilon(same, vector, np.array([[3.0, 3.0]]), np.arange(3)) < 1).any()


def test_the_gradient_of_a_linear_head_is_its_closed_form():
    _, model = attached()
    z = torch.from_numpy(rows().vector).double()
    said, direction = said_and_direction(model.head, z)
    p = model.head(z).softmax(1).detach()
    g = (p - torch.eye(4, dtype=p.dtype)[p.argmax(1)]) @ model.head.weight.detach()
    assert torch.equal(said, p.argmax(1))
    torch.testing.assert_close(direction, g / g.norm(dim=1, keepdim=True))


def test_a_head_without_gradient_changes_nothing():
    _, model = attached()
    nn.init.zeros_(model.head.weight)
    given = rows()
    assert not changed(model.head, given.vector, class_means(given), 1.0, np.arange(60)).any()
    assert np.isinf(least_epsilon(model.head, given.vector, class_means(given), np.arange(60))).all()


def test_class_means_are_those_of_the_labeled_rows():
    given = rows()
    means = class_means(given)
    for c in range(3):
        np.testing.assert_allclose(means[c], given.vector[given.y == c].astype(float).mean(0))
    given.y[given.y == 1] = 2  # a class without a label has no anchor
    assert len(class_means(given)) == 2


def test_epsilon_grows_until_there_are_enough():
    strategy, model = attached()
    given = rows(n=200)
    free = ~given.labeled
    sizes = {e: int((naive_candidates(model.head, given, e) & free).sum()) for e in (0.2, 0.4, 0.6)}
    assert 1 < sizes[0.2] < sizes[0.4] < sizes[0.6]
    for epsilon, budget in ((0.2, sizes[0.2] - 1), (0.4, sizes[0.2] + 1), (0.6, sizes[0.4] + 1)):
        candidate = naive_candidates(model.head, given, epsilon)
        assert select(strategy, given, budget, 1).ids == among_candidates(given, candidate, budget, 1).ids


def test_without_growth_the_rest_is_by_lot():
    strategy, model = attached(grow=False)
    given = rows(n=200)
    candidate = naive_candidates(model.head, given, 0.2) & ~given.labeled
    few = int(candidate.sum())
    picks = select(strategy, given, few + 5, 1)
    assert set(picks.ids[:few]) == {id for id, c in zip(given.ids, candidate, strict=True) if c}
    assert picks.score[few:].tolist() == [0.0] * 5


def test_steps_go_up_to_1():
    assert list(ALFAMix()._steps()) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert list(ALFAMix(epsilon=0.3)._steps()) == pytest.approx([0.3, 0.6, 0.9, 1.2])  # as the published loop ends
    assert list(ALFAMix(epsilon=0.3, grow=False)._steps()) == [0.3]


def test_errors_say_what_is_missing():
    for epsilon in (0.0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=r"strategy.epsilon"):
            ALFAMix(epsilon=epsilon)
    given = rows()
    with pytest.raises(SelectionError, match="train with this object first"):
        select(ALFAMix(), given, 3)
    strategy, _ = attached()
    nothing = Rows(given.ids, np.zeros(60, dtype=bool), vector=given.vector, y=np.full(60, -1))
    with pytest.raises(SelectionError, match="features of labeled rows, and there is none"):
        select(strategy, nothing, 3)
    given.vector[30, 0] = np.nan
    with pytest.raises(SelectionError, match=given.ids[30]):
        select(strategy, given, 3)


@pytest.mark.parametrize("gap", [5.0, 17.0, 20.0])
def test_the_direction_of_a_sure_row_is_the_gradients(gap):
    """In float32 the cross-entropy's own gradient has lost its way at a gap of 17."""
    torch.manual_seed(0)
    head = nn.Linear(6, 4)
    z = torch.randn(1, 6)
    with torch.no_grad():
        head.bias[0] += gap
    said, direction = said_and_direction(head, z)
    double = nn.Linear(6, 4).double()
    double.load_state_dict(head.state_dict())
    x = z.double().requires_grad_()
    torch.nn.functional.cross_entropy(double(x), said).backward()
    expected = x.grad / x.grad.norm()
    torch.testing.assert_close(direction.double(), expected, atol=1e-5, rtol=1e-4)
