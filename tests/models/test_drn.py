"""DRN to the last parameter, and its published files."""

from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mcdal.errors import ConfigError
from mcdal.models.base import count_parameters
from mcdal.models.drn import DRN, DRNModel, encoder
from mcdal.networks.heads import fresh_heads

SIZE = (48, 64)


@pytest.fixture(scope="module")
def model() -> DRNModel:
    torch.manual_seed(0)
    return DRN().build(19, 3, SIZE)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # published: 20.61, 16.39 (with a head of 513,000 for ImageNet's 1000 classes), 20.60 and 25.99 million
        ("drn_c_26", 20_613_584),
        ("drn_d_22", 16_393_752 - 513_000),
        ("drn_d_24", 20_601_392),
        ("drn_d_38", 25_988_912),
    ],
)
def test_number_of_parameters_without_the_classifier(name: Any, parameters: int) -> None:
    with torch.device("meta"):
        assert count_parameters(encoder(name)) == parameters


def test_number_of_parameters_with_it(model: DRNModel) -> None:
    assert count_parameters(model) == 15_890_499
    assert count_parameters(model.fresh_head()) == 9_747
    assert count_parameters(fresh_heads(model, 2)) == 2 * 9_747
    assert count_parameters(DRN().build(11, 3, SIZE).head) == 5_643


def test_stages_and_features_are_at_stride_8(model: DRNModel) -> None:
    with torch.no_grad():
        output = model(torch.randn(2, 3, *SIZE))
    assert [tuple(s.shape[1:]) for s in output.stages] == [(64, 12, 16), (128, 6, 8), (256, 6, 8), (512, 6, 8)]
    assert output.features.shape == (2, 512, 6, 8) and output.logits.shape == (2, 19, *SIZE)


@pytest.mark.parametrize("size", [(45, 60), (48, 72), (41, 33)])
def test_other_sizes_than_it_was_built_for(model: DRNModel, size: tuple[int, int]) -> None:
    with torch.no_grad():
        output = model(torch.randn(2, 3, *size))
    assert output.logits.shape == (2, 19, *size)
    assert output.features.shape[2:] == (-(-size[0] // 8), -(-size[1] // 8))


def test_weights_are_drawn_as_by_its_authors(model: DRNModel) -> None:
    for part in (model, model.fresh(), model.fresh_head()):
        for conv in (m for m in part.modules() if isinstance(m, nn.Conv2d)):
            wanted = sqrt(2 / (conv.kernel_size[0] ** 2 * conv.out_channels))
            assert conv.weight.std().item() == pytest.approx(wanted, rel=8 / sqrt(2 * conv.weight.numel()))
            assert conv.bias is None or not conv.bias.any()


def test_behind_its_widest_dilation_kind_c_adds_no_shortcut() -> None:
    with torch.device("meta"):
        net = encoder("drn_c_26")
    blocks = {
        name: [(b.residual, b.conv2.dilation[0]) for b in layer] for name, layer in list(net.named_children())[3:]
    }  # type: ignore[attr-defined]
    assert blocks["layer2"] == [(True, 1)] and blocks["layer6"] == [(True, 4)] * 2
    assert blocks["layer7"] == [(False, 2)] and blocks["layer8"] == [(False, 1)]


def published(name: str) -> dict[str, Tensor]:
    """Keys and shapes of a file such as drn_d_22-*.pth, written out from its authors' layout; it has no counters."""
    repeats = (1, 1, 2, 2, 2, 2, 1, 1)
    widths = (16, 32, 64, 128, 256, 512, 512, 512)
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(key: str, outputs: int, inputs: int, kernel: int) -> None:
        shapes[f"{key}.weight"] = (outputs, inputs, kernel, kernel)

    def norm(key: str, width: int) -> None:
        shapes.update({f"{key}.{each}": (width,) for each in ("weight", "bias", "running_mean", "running_var")})

    kind_c = name == "drn_c_26"
    conv("conv1" if kind_c else "layer0.0", 16, 3, 7)
    norm("bn1" if kind_c else "layer0.1", 16)
    inputs = 16
    for number, (count, width) in enumerate(zip(repeats, widths, strict=True), 1):
        for i in range(count):
            layer = f"layer{number}"
            if not kind_c and number in (1, 2, 7, 8):
                conv(f"{layer}.{3 * i}", width, inputs, 3)
                norm(f"{layer}.{3 * i + 1}", width)
            else:
                conv(f"{layer}.{i}.conv1", width, inputs, 3)
                norm(f"{layer}.{i}.bn1", width)
                conv(f"{layer}.{i}.conv2", width, width, 3)
                norm(f"{layer}.{i}.bn2", width)
                if inputs != width:
                    conv(f"{layer}.{i}.downsample.0", width, inputs, 1)
                    norm(f"{layer}.{i}.downsample.1", width)
            inputs = width
    conv("fc", 1000, 512, 1)
    shapes["fc.bias"] = (1000,)
    return {key: torch.rand(shape) * 0.1 for key, shape in shapes.items()}


@pytest.mark.parametrize("name", ["drn_c_26", "drn_d_22"])
def test_a_published_file_fits(name: Any, tmp_path: Path) -> None:
    file = published(name)
    torch.save(file, tmp_path / "drn.pth")
    model = DRN(name, str(tmp_path / "drn.pth")).build(11, 3, SIZE)
    own = model.encoder.state_dict()
    assert {key for key in own if not key.endswith("num_batches_tracked")} == {k for k in file if k[:3] != "fc."}
    for each in (model, model.fresh()):
        assert all(torch.equal(value, file[key]) for key, value in each.encoder.state_dict().items() if key in file)
    assert not torch.equal(model.head.seg.weight, model.fresh().head.seg.weight)


def test_a_file_of_another_network_is_named(tmp_path: Path) -> None:
    torch.save(published("drn_d_22"), tmp_path / "drn.pth")
    for name, complaint in [
        ("drn_d_24", r"missing \(layer7.3.weight"),
        ("drn_c_26", r"missing \(conv1.weight.*unexpected \(layer0.0.weight"),
    ]:
        with pytest.raises(ConfigError, match=f"drn.pth: the weights do not fit.*{complaint}"):
            DRN(name, str(tmp_path / "drn.pth")).build(11, 3, SIZE)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no such file"):
        DRN(weights=str(tmp_path / "nowhere.pth")).build(11, 3, SIZE)


def unchecked(kind: Any, name: str) -> None:
    """What a person sees where types are not checked, as they are in tests."""
    architecture = object.__new__(kind)
    object.__setattr__(architecture, "name", name)
    architecture.__post_init__()


def test_what_cannot_be_built_is_named() -> None:
    with pytest.raises(ConfigError, match="'drn_d_105'; it must be one of drn_c_26, drn_d_22"):
        unchecked(DRN, "drn_d_105")
    with pytest.raises(ConfigError, match="1 or 3 channels, and these have 4"):
        DRN().build(11, 4, SIZE)
