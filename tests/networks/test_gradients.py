"""BADGE's gradient of a scene, against autograd and in the precision that it is promised in."""

import torch
from torch.nn import functional as F

from mcdal.networks.gradients import last_layer_gradient
from mcdal.values import Output


def test_a_scene_s_gradient_is_not_multiplied_in_bfloat16():
    torch.manual_seed(0)
    output = Output(torch.randn(2, 4, 8, 12), torch.randn(2, 5, 4, 6))
    exact = last_layer_gradient(output).vector
    with torch.autocast("cpu", torch.bfloat16):
        found = last_layer_gradient(output).vector
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)


def test_it_is_the_gradient_of_a_1x1_convolution():
    torch.manual_seed(0)
    features = torch.randn(1, 5, 4, 6, dtype=torch.float64)
    weight = torch.randn(4, 5, 1, 1, dtype=torch.float64, requires_grad=True)
    logits = F.conv2d(features, weight)
    F.cross_entropy(logits, logits.argmax(1)).backward()
    found = last_layer_gradient(Output(logits.detach(), features)).vector
    torch.testing.assert_close(found.view(4, 5), weight.grad[:, :, 0, 0])
