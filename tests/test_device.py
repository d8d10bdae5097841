"""Devices by name, and what "auto" stands for."""

import copy

import pytest
import torch

from mcdal.device import Numerics, choose_device, native_bfloat16, resolve
from mcdal.errors import ConfigError
from mcdal.models.small import SmallConv

CPU = torch.device("cpu")


def test_a_device_by_name() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device().type in ("cpu", "cuda", "mps")
    x = torch.zeros(1, device=choose_device())
    assert x.device == choose_device()  # with its number: tensors say "cuda:0"


def test_devices_that_are_not_there() -> None:
    with pytest.raises(ConfigError, match="'gpu' is unknown"):
        choose_device("gpu")
    with pytest.raises(ConfigError, match="'cuda:99' is not there; this machine and its torch have cpu"):
        choose_device("cuda:99")


def test_auto_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcdal.device.native_bfloat16", lambda device: False)
    assert resolve(CPU) == Numerics(CPU, "float32", channels_last=True, compile=False)
    monkeypatch.setattr("mcdal.device.native_bfloat16", lambda device: True)
    assert resolve(CPU) == Numerics(CPU, "bfloat16", channels_last=True, compile=False)
    assert resolve(CPU, "float64", False, True) == Numerics(CPU, "float64", channels_last=False, compile=True)


def test_bfloat16_of_a_cpu_is_asked_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for query in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, query, lambda: False, raising=False)
    assert not native_bfloat16(CPU)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert native_bfloat16(CPU)
    for query in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, query)
    assert not native_bfloat16(CPU)


def test_the_queries_exist_in_this_torch() -> None:
    assert hasattr(torch.cpu, "_is_avx512_bf16_supported") and hasattr(torch.cpu, "_is_amx_tile_supported")


def test_auto_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr("mcdal.device.native_bfloat16", lambda device: True)
    monkeypatch.setattr("mcdal.device.find_spec", lambda name: name)
    assert resolve(cuda) == Numerics(cuda, "bfloat16", channels_last=True, compile=True, replay=True)
    monkeypatch.setattr("mcdal.device.find_spec", lambda name: None)
    assert not resolve(cuda).compile
    assert not resolve(cuda, replay=False).replay


def test_what_cannot_be_had() -> None:
    with pytest.raises(ConfigError, match="replay = true"):
        resolve(CPU, replay=True)
    with pytest.raises(ConfigError, match="float64 does not exist on mps"):
        resolve(torch.device("mps"), "float64")


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_a_model_in_its_numerics(precision: str, channels_last: bool) -> None:
    numerics = resolve(CPU, precision, channels_last)  # type: ignore[arg-type]
    model = numerics.place(SmallConv(4).build(3, 3, (8, 8)))
    x = numerics.arrange(torch.randn(2, 3, 8, 8))
    assert x.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    with numerics.autocast():
        output = model(x)
    assert output.logits.dtype == output.features.dtype == numerics.dtype
    assert output.stages[0].dtype == getattr(torch, precision)
    assert output.stages[0].is_contiguous(memory_format=torch.channels_last) == channels_last


def test_compiling_leaves_names_and_copies_as_they_are() -> None:
    numerics = resolve(CPU, "float32", compile=True)
    model = SmallConv(4).build(3, 3, (8, 8))
    names = list(model.state_dict())
    assert numerics.place(numerics.place(model)) is model
    assert model._compiled_call_impl is not None
    assert list(model.state_dict()) == names
    assert copy.deepcopy(model)._compiled_call_impl is None


def test_settings_of_cudnn_come_back() -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    numerics = Numerics(torch.device("cuda", 0), "float32", channels_last=True, compile=False)
    with pytest.raises(KeyError), numerics.deterministic():
        assert (cudnn.benchmark, cudnn.deterministic) == (False, True)
        raise KeyError
    assert (cudnn.benchmark, cudnn.deterministic) == before
