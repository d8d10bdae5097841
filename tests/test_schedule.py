"""The rate reaches the optimizer, whatever kind of number it keeps."""

import pytest
import torch

from mcdal.schedule import set_rate


@pytest.mark.parametrize("kept", [0.5, torch.tensor(0.5)])
@pytest.mark.parametrize("given", [0.25, torch.tensor(0.25)])
def test_the_rate_is_set_and_stays_of_its_kind(kept, given):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=kept)
    set_rate(optimizer, given)
    rate = optimizer.param_groups[0]["lr"]
    assert float(rate) == 0.25 and isinstance(rate, torch.Tensor) == isinstance(kept, torch.Tensor)


def test_a_kept_rate_goes_where_the_parameters_are():
    """A checkpoint is read on the CPU; here the parameters are on another device that every machine has."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2, device="meta"))], lr=torch.tensor(0.5))
    set_rate(optimizer, 0.25)
    assert optimizer.param_groups[0]["lr"].device.type == "meta"
