"""Several linear heads: the logits of each, in one product or in several."""

import pytest
import torch
from torch import nn

from mcdal.networks.heads import LinearHeads


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("classes", [3, 40])
@pytest.mark.parametrize("size", [1, 9])
def test_one_product_says_what_each_head_says(size, classes, bias):
    torch.manual_seed(0)
    heads = [nn.Linear(6, classes, bias=bias) for _ in range(3)]
    joint, z = LinearHeads(heads), torch.randn(size, 6)
    expected = torch.stack([head(z) for head in heads])
    with torch.inference_mode():
        measured = joint(z)
    for said in (joint(z), measured):
        assert said.shape == (3, size, classes)
        torch.testing.assert_close(said, expected)
    assert not measured.requires_grad and joint(z).requires_grad
