"""Encoders of torchvision and timm, with weights from a file that fits or does not."""

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mcdal.errors import ConfigError
from mcdal.models.timm import Timm
from mcdal.models.torchvision import Torchvision

SIZE = (64, 64)
X = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def net() -> Any:
    torch.manual_seed(3)
    return pytest.importorskip("torchvision.models").resnet18(num_classes=7).eval()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_the_same_classes_gives_the_same_network(net: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    torch.save(net.state_dict(), path) if suffix == ".pth" else save_file(net.state_dict(), path)
    model = Torchvision(weights=str(path)).build(7, 3, SIZE).eval()
    torch.testing.assert_close(model(X).logits, net(X))


def test_a_classifier_of_other_classes_is_left_out(net: Any, tmp_path: Path) -> None:
    torch.save({"state_dict": net.state_dict()}, tmp_path / "net.pth")
    model = Torchvision(weights=str(tmp_path / "net.pth")).build(4, 3, SIZE).eval()
    assert model(X).logits.shape == (2, 4)
    torch.testing.assert_close(torch.nn.functional.linear(model(X).features, net.fc.weight, net.fc.bias), net(X))


def test_timm_gives_timms_own_logits(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    for name in ("resnet10t", "mobilenetv3_small_050", "convnext_atto"):
        torch.manual_seed(0)
        own = timm.create_model(name, num_classes=6).eval()
        save_file(own.state_dict(), tmp_path / "own.safetensors")
        model = Timm(name, str(tmp_path / "own.safetensors")).build(6, 3, SIZE).eval()
        torch.testing.assert_close(model(X).logits, own(X))


def test_a_transformer_is_built_for_the_size_of_the_images() -> None:
    pytest.importorskip("timm")
    output = Timm("vit_tiny_patch16_224").build(3, 3, SIZE)(X)
    assert output.features.shape == (2, 192)
    assert [tuple(s.shape) for s in output.stages] == [(2, 192, 4, 4)] * 4


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda w: w.pop("conv1.weight"), r"1 missing \(conv1.weight\)"),
        (lambda w: w.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (lambda w: w.update({"bn1.bias": torch.zeros(3)}), r"1 of another shape \(bn1.bias\)"),
    ],
)
def test_what_does_not_fit_is_named(net: Any, tmp_path: Path, change: Any, complaint: str) -> None:
    weights = dict(net.state_dict())
    change(weights)
    torch.save(weights, tmp_path / "odd.pth")
    with pytest.raises(ConfigError, match=rf"odd.pth.*{complaint}"):
        Torchvision(weights=str(tmp_path / "odd.pth")).build(7, 3, SIZE)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, complaint in [
        ("nowhere.pth", "no such file"),
        ("text.pth", "not a readable file"),
        ("text.safetensors", "not a readable file"),
        ("list.pth", "no state dict"),
    ]:
        with pytest.raises(ConfigError, match=f"{name}.*{complaint}"):
            Torchvision(weights=str(tmp_path / name)).build(7, 3, SIZE)


def test_names_that_do_not_exist() -> None:
    pytest.importorskip("torchvision")
    pytest.importorskip("timm")
    with pytest.raises(ConfigError, match="'vgg11'; torchvision's ResNets are resne"):
        Torchvision("vgg11").build(2, 3, SIZE)
    with pytest.raises(ConfigError, match=r"near: .*resnet18"):
        Timm("resnet-18").build(2, 3, SIZE)
    with pytest.raises(ConfigError, match="1 or 3 channels, and these have 4"):
        Timm().build(2, 4, SIZE)


@pytest.mark.parametrize(("architecture", "package"), [(Torchvision(), "torchvision"), (Timm(), "timm")])
def test_the_error_names_the_extra(architecture: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == package:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'mcdal\[vision\]'"):
        architecture.build(2, 3, SIZE)
