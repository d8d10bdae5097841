"""What every architecture must do. Found by walking the package: a new one is tested without a new test."""

import copy
import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import mcdal.models
from mcdal.models.base import Architecture, Model, apply_head
from mcdal.models.resnet import ResNet
from mcdal.models.small_segmentation import SmallSegmentation
from mcdal.models.torchvision_segmentation import TorchvisionSegmentation
from mcdal.models.wrap import Custom

CLASSES = 5
NEEDS = {"Torchvision": "torchvision", "TorchvisionSegmentation": "torchvision", "Timm": "timm"}


def tiny(classes: int) -> nn.Module:
    """Somebody's own network."""
    body = (nn.LazyConv2d(6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*body, nn.Linear(6, classes))


def of_channels(channels: int) -> nn.Module:
    """`tiny` with its lazy layer made."""
    net = tiny(CLASSES)
    net.eval()(torch.zeros(1, channels, 8, 8))
    return net.train()


# Where the defaults are too heavy for a test, or cannot be built without more.
SMALLER: dict[str, Architecture] = {
    "ResNet": ResNet(depth=10, width=8),
    "SmallSegmentation": SmallSegmentation(width=8),
    "TorchvisionSegmentation": TorchvisionSegmentation("lraspp_mobilenet_v3_large"),
}


def architectures() -> Iterator[object]:
    for module in pkgutil.iter_modules(mcdal.models.__path__, "mcdal.models."):
        for name, kind in inspect.getmembers(import_module(module.name), inspect.isclass):
            own = issubclass(kind, Architecture) and kind is not Architecture and kind.__module__ == module.name
            if own and not kind.on_features:  # heads on features take no images: test_probe.py
                yield pytest.param(kind, id=name)


@pytest.fixture(params=architectures())
def kind(request: pytest.FixtureRequest) -> type[Architecture]:
    kind: type[Architecture] = request.param
    if kind.__name__ in NEEDS:
        pytest.importorskip(NEEDS[kind.__name__], reason=f"{kind.__name__} needs the extra 'vision'")
    return kind


def build(kind: type[Architecture], channels: int = 3, size: tuple[int, int] = (32, 32), seed: int = 0) -> Model:
    torch.manual_seed(seed)
    architecture = SMALLER.get(kind.__name__)
    if kind is Custom:
        architecture = Custom(lambda: of_channels(channels), head="5")
    return (architecture or kind()).build(CLASSES, channels, size)


def images(channels: int = 3, size: tuple[int, int] = (32, 32), b: int = 4) -> torch.Tensor:
    return torch.randn(b, channels, *size, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(("channels", "size"), [(3, (32, 32)), (1, (32, 32)), (1, (28, 28)), (3, (33, 47))])
def test_shapes(kind: type[Architecture], channels: int, size: tuple[int, int]) -> None:
    model = build(kind, channels, size)
    output = model(images(channels, size))
    assert output.logits.shape == (4, CLASSES, *(size if kind.dense else ()))
    assert output.features.shape[0] == 4 and output.features.ndim == (4 if kind.dense else 2)
    assert output.logits.dtype == output.features.dtype == torch.float32
    assert all(stage.shape[0] == 4 and stage.ndim == 4 for stage in output.stages)
    heights = [stage.shape[2] for stage in output.stages]
    assert heights == sorted(heights, reverse=True)


def test_logits_are_the_head_of_the_features(kind: type[Architecture]) -> None:
    model = build(kind)
    for mode in (True, False):
        output = model.train(mode)(images())
        torch.testing.assert_close(output.logits, apply_head(model.head, output.features), rtol=0, atol=1e-6)


def test_logits_are_float32_under_autocast(kind: type[Architecture]) -> None:
    model = build(kind)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(images())
    assert output.logits.dtype == output.features.dtype == torch.float32
    torch.testing.assert_close(output.logits, apply_head(model.head, output.features))


def test_a_fresh_head_is_another_head_of_the_same_shape(kind: type[Architecture]) -> None:
    model = build(kind)
    before = copy.deepcopy(model.state_dict())
    first, second = model.fresh_head(), model.fresh_head()
    kept = model.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in before.items())
    for mine, one, two in zip(model.head.parameters(), first.parameters(), second.parameters(), strict=True):
        assert mine.shape == one.shape == two.shape
        if mine.ndim > 1:  # a bias may begin at 0
            assert not torch.equal(mine, one) and not torch.equal(one, two)
    output = model(images())
    assert apply_head(first, output.features).shape == output.logits.shape


def test_a_fresh_model_is_another_model_of_the_same_shape(kind: type[Architecture]) -> None:
    model = build(kind)
    model.double().train()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(5)
    first, second = model.fresh(), model.fresh()
    torch.manual_seed(5)
    again = model.fresh()
    kept = model.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in before.items())
    assert first.training and next(first.parameters()).dtype == torch.float64
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), model.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    torch.testing.assert_close(
        first.state_dict()[next(iter(before))].std(), before[next(iter(before))].std(), rtol=0.5, atol=0.0
    )


def test_the_gradient_reaches_every_parameter(kind: type[Architecture]) -> None:
    model = build(kind)
    with torch.no_grad():
        for p in model.parameters():  # some start a residual branch at exactly 0, which stops the gradient once
            p.add_(torch.randn_like(p), alpha=0.01)
    logits = model(images()).logits
    y = torch.arange(4).view(-1, *[1] * (logits.ndim - 2)).expand(-1, *logits.shape[2:])
    nn.functional.cross_entropy(logits, y).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_in_eval_mode_an_image_does_not_see_its_neighbours(kind: type[Architecture]) -> None:
    model = build(kind).eval()
    with torch.no_grad():
        together = model(images())
        alone = [model(image[None]) for image in images()]
    torch.testing.assert_close(together.logits, torch.cat([o.logits for o in alone]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.features, torch.cat([o.features for o in alone]), rtol=1e-4, atol=1e-5)


def test_the_seed_decides_the_weights(kind: type[Architecture]) -> None:
    first, same, other = (build(kind, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_weights_survive_a_file(kind: type[Architecture], tmp_path: Path) -> None:
    model, other = build(kind, seed=1).eval(), build(kind, seed=2).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(model(images()).logits, other(images()).logits)


def test_a_deep_copy_stands_alone(kind: type[Architecture]) -> None:
    model = build(kind).eval()
    model(images()).logits.sum().backward()
    copied = copy.deepcopy(model)
    expected = model(images()).logits
    assert torch.equal(copied(images()).logits, expected)
    with torch.no_grad():
        for p in copied.parameters():
            p.zero_()
    assert torch.equal(model(images()).logits, expected)
    assert copied.head is not model.head


def test_every_field_is_explained(kind: type[Architecture]) -> None:
    lines = inspect.getsource(kind).splitlines()
    fields = [
        i for i, line in enumerate(lines) if line.startswith("    ") and line.strip().split(":")[0].isidentifier()
    ]
    fields = [i for i in fields if lines[i].strip().split(":")[0] in inspect.signature(kind).parameters]
    assert len(fields) == len(inspect.signature(kind).parameters)
    assert all(lines[i + 1].strip().startswith('"""') for i in fields)
