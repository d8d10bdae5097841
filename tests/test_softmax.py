"""Probabilities and scores of large batches, in parts and transposed, against float64 written plainly."""

import numpy as np
import pytest
import torch

from mcdal import softmax as module
from mcdal.discrepancy import discrepancy, discrepancy_of
from mcdal.softmax import in_parts, softmax
from mcdal.uncertainty import entropy, least_confidence, margin


def plain(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def naive(measure, z):
    p = plain(z.double().numpy())
    if measure is entropy:
        return -(p * np.log(np.where(p > 0, p, 1))).sum(1)
    ordered = np.sort(p, axis=1)
    return 1 - ordered[:, -1] if measure is least_confidence else 1 - (ordered[:, -1] - ordered[:, -2])


@pytest.mark.parametrize("c", [2, 3, 10, 15, 16, 17, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("measure", [entropy, least_confidence, margin])
def test_scores_of_every_width_in_parts_are_the_plain_ones(measure, dtype, c, monkeypatch):
    monkeypatch.setattr(module, "PART", 1_000)
    torch.manual_seed(c)
    z = 3 * torch.randn(333, c, dtype=dtype)
    z[5] = 0.0  # all classes tie
    z[6, :2] = 40.0  # two do
    z[7, 1] = -torch.inf  # one is impossible
    given = z.clone()
    tolerance = 1e-6 if dtype is torch.float32 else 1e-13
    np.testing.assert_allclose(measure(z).double(), naive(measure, z), atol=tolerance, rtol=tolerance)
    assert torch.equal(z, given), "what was given stays as it is"
    assert (measure(z) >= 0).all()


@pytest.mark.parametrize("c", [10, 100])
@pytest.mark.parametrize("measure", [entropy, least_confidence, margin])
def test_nan_is_told_and_stays_in_its_row(measure, c):
    z = torch.randn(5, c)
    z[2, 1] = torch.nan
    assert measure(z).isnan().tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("measure", [entropy, least_confidence, margin])
def test_bfloat16_is_computed_in_float32(measure):
    z = (3 * torch.randn(50, 10)).bfloat16()
    assert torch.equal(measure(z), measure(z.float()))


@pytest.mark.parametrize("shape", [(4,), (40, 10), (40, 100), (3, 40, 10)])
def test_softmax_is_the_plain_one(shape):
    z = 3 * torch.randn(shape)
    found = softmax(z, len(shape) - 1)
    torch.testing.assert_close(found, z.double().softmax(-1).float())
    grad = z.clone().requires_grad_()
    assert torch.equal(softmax(grad, -1), grad.softmax(-1)), "what is trained is torch's own, to the last bit"


@pytest.mark.parametrize("kind", ["l1", "l2", "kl"])
@pytest.mark.parametrize("heads", [2, 3, 4])
@pytest.mark.parametrize("c", [10, 100])
def test_discrepancy_of_logits_in_parts(c, heads, kind, monkeypatch):
    monkeypatch.setattr(module, "PART", 1_000)
    z = 3 * torch.randn(heads, 77, c)
    p = [plain(head) for head in z.double().numpy()]
    expected = 0
    for i in range(heads):
        for j in range(i):
            gap = p[i] - p[j]
            l1, l2 = np.abs(gap).sum(1) / c, np.sqrt((gap**2).sum(1)) / c
            expected += {"l1": l1, "l2": l2, "kl": (gap * np.log(p[i] / p[j])).sum(1) / 2}[kind]
    np.testing.assert_allclose(discrepancy_of(z, kind), expected, rtol=2e-5, atol=1e-7)
    assert torch.equal(discrepancy_of(z, kind), discrepancy_of(list(z), kind))
    stacked = discrepancy(torch.from_numpy(np.array(p)), kind)
    np.testing.assert_allclose(stacked, expected, rtol=1e-9, atol=1e-12)


def test_the_gradient_of_three_heads_is_that_of_the_pairs():
    members = torch.randn(3, 6, 4).double().softmax(2).requires_grad_()
    (found,) = torch.autograd.grad(discrepancy(members, "l1").sum(), members)
    pairs = sum((members[i] - members[j]).abs().sum() / 4 for i, j in ((0, 1), (0, 2), (1, 2)))
    torch.testing.assert_close(found, torch.autograd.grad(pairs, members)[0])


def test_parts_are_of_whole_samples(monkeypatch):
    monkeypatch.setattr(module, "PART", 100)
    seen = []
    batch = torch.arange(70.0).reshape(35, 2)
    assert torch.equal(in_parts(lambda z: seen.append(len(z)) or z.sum(1), batch), batch.sum(1))
    assert len(seen) > 1 and sum(seen) == 35
