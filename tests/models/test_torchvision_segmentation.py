"""torchvision's networks for segmentation say what torchvision says, with the weights of a file and from features alone."""

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mcdal.errors import ConfigError
from mcdal.models.base import apply_head, count_parameters
from mcdal.models.torchvision_segmentation import CLASSIFIERS, DeepLab, TorchvisionSegmentation

SIZE = (65, 82)
LIGHT = ("deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")
X = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def own(name: str, classes: int = 7) -> Any:
    """torchvision's network, with statistics as after some training."""
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(3)
    net = models.get_model(name, weights=None, weights_backbone=None, num_classes=classes)
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.8, 1.2)
    return net.eval()


def close(said: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(said, wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())


@pytest.mark.parametrize("name", [*LIGHT, "deeplabv3_resnet50"])
def test_a_file_of_the_same_classes_gives_torchvisions_own_logits(name: Any, tmp_path: Path) -> None:
    net = own(name)
    aux = {"aux_classifier.4.weight": torch.zeros(7, 256, 1, 1)}  # published files of DeepLabV3 have one
    torch.save({**net.state_dict(), **aux}, tmp_path / "net.pth")
    model = TorchvisionSegmentation(name, str(tmp_path / "net.pth")).build(7, 3, SIZE).eval()
    x = X if name in LIGHT else X[:1]
    with torch.no_grad():
        output, wanted = model(x), net(x)["out"]
    close(output.logits, wanted)
    close(apply_head(model.head, output.features), wanted)


@pytest.mark.parametrize("name", LIGHT)
def test_in_train_mode_too(name: Any, tmp_path: Path) -> None:
    net = own(name).double()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    model = TorchvisionSegmentation(name, str(tmp_path / "net.safetensors")).build(7, 3, SIZE).double().train()
    for dropout in (m for m in (*net.train().modules(), *model.modules()) if isinstance(m, nn.Dropout)):
        dropout.eval()
    with torch.no_grad():
        close(model(X.double()).logits, net(X.double())["out"])


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("deeplabv3_resnet50", 39_638_869),
        ("deeplabv3_resnet101", 58_630_997),
        ("deeplabv3_mobilenet_v3_large", 11_025_477),
        ("lraspp_mobilenet_v3_large", 3_221_538 - 21),  # one bias where torchvision adds two
    ],
)
def test_number_of_parameters(name: Any, parameters: int) -> None:
    pytest.importorskip("torchvision")
    with torch.device("meta"):
        assert count_parameters(TorchvisionSegmentation(name).build(21, 3, SIZE)) == parameters


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_shapes(name: Any) -> None:
    pytest.importorskip("torchvision")
    light, lraspp = name in LIGHT, name.startswith("lraspp")
    model = TorchvisionSegmentation(name).build(5, 1, SIZE).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output, other = model(X[:1, :1]), model(X[:1, :1, :50, :64])
    assert output.logits.shape == (1, 5, *SIZE) and other.logits.shape == (1, 5, 50, 64)
    assert output.logits.dtype == output.features.dtype == torch.float32
    assert output.features.shape == (1, 168 if lraspp else 256, *((5, 6) if light and not lraspp else (9, 11)))
    stages = [tuple(stage.shape[1:]) for stage in output.stages]
    resnet = [(256, 17, 21), (512, 9, 11), (1024, 9, 11), (2048, 9, 11)]
    assert stages == ([(24, 17, 21), (40, 9, 11), (112, 5, 6), (960, 5, 6)] if light else resnet)


@pytest.mark.parametrize("name", LIGHT)
def test_a_classifier_of_other_classes_is_left_out(name: Any, tmp_path: Path) -> None:
    net = own(name, classes=21)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    architecture = TorchvisionSegmentation(name, str(tmp_path / "net.pth"))
    model, same = architecture.build(4, 3, SIZE).eval(), architecture.build(21, 3, SIZE).eval()
    with torch.no_grad():
        output, whole = model(X), same(X)
    assert output.logits.shape == (2, 4, *SIZE)
    torch.testing.assert_close(output.features, whole.features)
    assert not torch.equal(model.fresh().head.seg.weight, model.head.seg.weight)
    torch.testing.assert_close(same.fresh().head.seg.weight, same.head.seg.weight)


@pytest.mark.parametrize(
    ("name", "of_images"),
    [(LIGHT[0], "mobilenet_v3_large"), (LIGHT[1], "mobilenet_v3_large"), ("deeplabv3_resnet50", "resnet50")],
)
def test_the_encoder_can_come_from_a_classifier_of_images(name: Any, of_images: str, tmp_path: Path) -> None:
    classifier = pytest.importorskip("torchvision.models").get_model(of_images, weights=None)
    torch.save(classifier.state_dict(), tmp_path / "net.pth")
    model = TorchvisionSegmentation(name, str(tmp_path / "net.pth")).build(7, 3, SIZE)
    theirs = classifier.features if hasattr(classifier, "features") else classifier
    loaded = model.backbone.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in theirs.state_dict().items() if key[:3] != "fc.")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda w: w.pop("backbone.0.0.weight"), r"1 missing \(backbone.0.0.weight\)"),
        (lambda w: w.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (lambda w: w.update({"backbone.0.1.bias": torch.zeros(3)}), r"1 of another shape \(backbone.0.1.bias\)"),
    ],
)
def test_what_does_not_fit_is_named(change: Any, complaint: str, tmp_path: Path) -> None:
    weights = dict(own(LIGHT[1]).state_dict())
    change(weights)
    torch.save(weights, tmp_path / "odd.pth")
    with pytest.raises(ConfigError, match=rf"odd.pth.*{complaint}"):
        TorchvisionSegmentation(LIGHT[1], str(tmp_path / "odd.pth")).build(7, 3, SIZE)  # type: ignore[arg-type]


def test_the_whole_image_reaches_every_place_as_torchvision_says_it() -> None:
    model = TorchvisionSegmentation(LIGHT[0]).build(3, 3, SIZE).eval()  # type: ignore[arg-type]
    assert isinstance(model, DeepLab)
    pooled: Any = model.neck[0].convs[-1]  # type: ignore[union-attr,index]
    x = torch.randn(2, 960, 5, 6)
    torch.testing.assert_close(pooled(x), nn.functional.interpolate(pooled.layers(x), size=(5, 6), mode="bilinear"))


def test_names_that_do_not_exist() -> None:
    architecture = object.__new__(TorchvisionSegmentation)  # as where types are not checked
    object.__setattr__(architecture, "name", "fcn_resnet50")
    with pytest.raises(ConfigError, match="'fcn_resnet50'; it must be one of deeplabv3_resnet50"):
        architecture.__post_init__()
    pytest.importorskip("torchvision")
    with pytest.raises(ConfigError, match="1 or 3 channels, and these have 4"):
        TorchvisionSegmentation().build(2, 4, SIZE)


def test_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torchvision":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'mcdal\[vision\]'"):
        TorchvisionSegmentation().build(2, 3, SIZE)
