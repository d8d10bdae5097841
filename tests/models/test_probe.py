"""Heads on features: linear or with a hidden layer, float32 logits, drawn afresh."""

import pytest
import torch

from mcdal.errors import ConfigError
from mcdal.models.base import apply_head
from mcdal.models.probe import Probe, ProbeModel

X = torch.randn(4, 12, 1, 1, generator=torch.Generator().manual_seed(7))


@pytest.fixture(params=[0, 6])
def model(request: pytest.FixtureRequest) -> ProbeModel:
    torch.manual_seed(0)
    return Probe(request.param).build(5, 12, (1, 1))


def test_features_are_what_the_head_is_given(model: ProbeModel) -> None:
    output = model(X)
    hidden = isinstance(model.hidden, torch.nn.Sequential)
    wanted = model.hidden[0](X.flatten(1)).relu() if hidden else X.flatten(1)  # type: ignore[index]
    torch.testing.assert_close(output.features, wanted)
    torch.testing.assert_close(output.logits, apply_head(model.head, output.features))
    assert output.logits.shape == (4, 5) and output.stages == ()


def test_logits_are_float32_under_autocast(model: ProbeModel) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        output = model(X)
    assert output.logits.dtype == output.features.dtype == torch.float32


def test_fresh_ones_are_others(model: ProbeModel) -> None:
    head, again = model.fresh_head(), model.fresh()
    assert not torch.equal(next(head.parameters()), next(model.head.parameters()))
    assert all(not torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_images_and_nonsense_are_refused() -> None:
    with pytest.raises(ConfigError, match="works on the features of an encoder"):
        Probe().build(5, 3, (32, 32))
    with pytest.raises(ConfigError, match=r"model\.hidden"):
        Probe(-1)
