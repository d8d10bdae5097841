"""One module gives what the loop's own steps give: decode, normalise, encode, head; and pools are seen as at training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mcdal.artifacts import Artifacts
from mcdal.augment import normalize
from mcdal.classifier import Classifier, Normalized, resizing
from mcdal.encoders.base import Built
from mcdal.errors import PoolError
from mcdal.inputs import Inputs
from mcdal.models.base import Model
from mcdal.models.probe import ProbeModel
from mcdal.models.resnet import ResNet
from mcdal.pool.decode import Decoder
from mcdal.pool.frozen import FeatureImages, Spread
from mcdal.testing import FakeModel, fake_pool


def photographs(tmp_path, count=6):
    """JPEG and PNG files of many sizes, decoded as a campaign does."""
    draw = np.random.default_rng(0)
    found = []
    for i in range(count):
        small = draw.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        path = tmp_path / f"{i}.{'jpg' if i % 2 else 'png'}"
        Image.fromarray(small).resize((60 + 31 * i, 50 + 17 * i), Image.Resampling.BICUBIC).save(path)
        found.append(Decoder(32).decode(path).pixels)
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)


def test_normalisation_is_bit_for_bit_that_of_the_loop(tmp_path):
    x = photographs(tmp_path)
    mean, std = (0.485, 0.456, 0.123), (0.229, 0.3, 0.7)
    for layout in (torch.contiguous_format, torch.channels_last):
        given = x.contiguous(memory_format=layout)
        assert torch.equal(Normalized(mean, std)(given), normalize(given, mean, std))


def test_probabilities_are_those_of_the_steps_one_by_one(tmp_path):
    x = photographs(tmp_path)
    torch.manual_seed(0)
    model: Model = ResNet(depth=10, width=4).build(4, 3, (32, 32)).eval()
    inputs = Inputs(("a", "b", "c", "d"), (3, 32, 32), (0.4, 0.5, 0.6), (0.2, 0.3, 0.1))
    with torch.no_grad():
        wanted = (model(normalize(x, inputs.mean, inputs.std)).logits / 1.7).softmax(1)
    assert torch.allclose(Classifier.of(model, inputs, 1.7)(x), wanted, atol=1e-6)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(24, 24), (32, 32), (50, 20)])
def test_an_encoder_sees_what_it_saw(tmp_path, mode, channels, size):
    x = photographs(tmp_path)[:, :channels]
    torch.manual_seed(0)
    built = Built(
        nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(),
        size,
        interpolation=mode,
    )
    spread = Spread([0.1, 0.2, 0.3, 0.0, -0.5, 1.0], [0.5, 1.0, 2.0, 0.1, 0.3, 1.5])
    head = ProbeModel(6, 0, 4).eval()
    inputs = Inputs(("a", "b", "c", "d"), (6, 1, 1), (), (), spread)
    features = (built.features(x) - torch.tensor(spread.mean)) / torch.tensor(spread.deviation)
    wanted = head(features[:, :, None, None]).logits.softmax(1)
    found = Classifier.of(head, inputs, 1.0, built, (32, 32))(x)
    assert torch.allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("old", "new"), [(32, 224), (64, 24), (9, 9), (7, 1)])
def test_resizing_is_a_matrix_whose_rows_add_up_to_1(mode, old, new):
    matrix = resizing(old, new, mode)
    assert matrix.shape == (new, old) and torch.allclose(matrix.sum(1), torch.ones(new), atol=1e-5)


def test_inputs_are_kept_with_the_model_and_come_back(tmp_path):
    for inputs in (
        Inputs(("cat", 'd"o\ng', "é"), (3, 8, 8), (0.1, 0.2, 0.3), (1 / 3, 0.5, 1.0)),
        Inputs(("a", "b"), (2, 1, 1), (), (), Spread([0.1, 1 / 7], [1.0, 2.0])),
    ):
        Artifacts(tmp_path).write_model(0, FakeModel(2), inputs)
        assert Artifacts(tmp_path).read_inputs(0) == inputs
    Artifacts(tmp_path).write_model(1, FakeModel(2))
    assert Artifacts(tmp_path).read_inputs(1) is None and Artifacts(tmp_path).read_inputs(2) is None
    assert Artifacts(tmp_path).read_model(0).keys() == FakeModel(2).state_dict().keys()


def test_a_pool_that_has_grown_is_seen_as_at_training():
    pool = fake_pool()
    before = Inputs.of(pool)
    grown = replace(pool, mean=(0.9,) * 3, std=(0.7,) * 3)
    assert (before.on(grown).mean, before.on(grown).std) == (pool.mean, pool.std)
    with pytest.raises(PoolError, match="take a later round"):
        replace(before, shape=(1, 8, 8)).on(pool)
    raw = np.arange(12, dtype=np.float32).reshape(4, 3)
    some = np.arange(4)
    images = FeatureImages(raw, pool.images, some, Spread([0.0] * 3, [1.0] * 3))
    view = replace(pool.test, images=images, positions=some, y=np.zeros(4, dtype=np.int64))
    features = replace(pool, images=images, test=view, targets=None, groups=None)
    inputs = replace(Inputs.of(features), spread=Spread([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]))
    for seen in (inputs.on(features).images, inputs.on(features).test.images):
        (x,) = seen.batches([some], torch.device("cpu"))
        assert torch.allclose(x.flatten(1), (torch.from_numpy(raw) - torch.tensor([1.0, 2.0, 3.0])) / 2)
