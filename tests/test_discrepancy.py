"""MCDAL's distance and its sum over pairs, one number at a time. tests/strategies/test_mcdal.py has more."""

from itertools import combinations

import pytest
import torch

from mcdal.discrepancy import discrepancy, distance
from tests.strategies.test_mcdal import naive_distance


@pytest.mark.parametrize("kind", ["l1", "l2", "kl"])
def test_any_shape_before_the_classes(kind):
    torch.manual_seed(0)
    members = torch.randn(4, 3, 2, 5).double().softmax(-1)
    found = discrepancy(members.unbind(0), kind)
    assert found.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            expected = sum(naive_distance(a[i, j], b[i, j], kind) for a, b in combinations(members, 2))
            torch.testing.assert_close(found[i, j], expected)


@pytest.mark.parametrize(("kind", "most"), [("l1", 2 / 3), ("l2", 2**0.5 / 3)])
def test_from_equal_to_opposite(kind, most):
    p, q = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0])
    assert distance(p, q, kind).item() == pytest.approx(most)
    assert distance(p, p, kind).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("kind", ["l1", "l2", "kl"])
def test_the_gradient_is_finite_at_equal_and_at_certain_shares(kind):
    p = torch.tensor([[1.0, 0, 0], [0.2, 0.3, 0.5]], requires_grad=True)
    distance(p, torch.tensor([[0.0, 1, 0], [0.2, 0.3, 0.5]]), kind).sum().backward()
    assert p.grad.isfinite().all()
