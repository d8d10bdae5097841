"""Where and in which arithmetic a run computes: device, precision, memory layout, compilation, determinism."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Literal, TypeAlias, TypeVar

import torch
import torch.utils.deterministic
from jaxtyping import Float
from torch import Tensor, nn

from mcdal.errors import ConfigError

Precision: TypeAlias = Literal["float32", "bfloat16", "float64"]
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Numerics:
    """How a run computes. `resolve` chooses; nothing is "auto" any more.

    precision: of convolutions and products. bfloat16 is autocast over float32 weights; float32 leaves torch's own
    setting of TF32 on CUDA; float64 has float64 weights and images.
    """

    device: torch.device
    precision: Precision
    channels_last: bool
    compile: bool
    replay: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, images, features and logits."""
        return torch.float64 if self.precision == "float64" else torch.float32

    @property
    def wide(self) -> torch.dtype:
        """The dtype for sums over many batches."""
        return wide(self.device)

    def place(self, model: Module) -> Module:
        """The same model, moved in place to this device, dtype and layout, compiled if so chosen; safe to repeat."""
        model.to(self.device, self.dtype)
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
        if self.compile and model._compiled_call_impl is None:
            # In place: names in the state dict stay as they are, and a deep copy is not compiled. Not dynamic: which shapes
            # a process has seen before would decide which kernel trains, and with it the last bits.
            model.compile(dynamic=False)
        return model

    def arrange(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Images on this device, in the dtype and layout of the model."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return x.to(self.device, self.dtype, non_blocking=True).contiguous(memory_format=layout)

    def of_rank(self, rank: int) -> "Numerics":
        """The same on the device of this rank: of GPUs the one whose number is so much larger."""
        if self.device.type != "cuda":
            return self
        return replace(self, device=torch.device("cuda", (self.device.index or 0) + rank))

    def autocast(self) -> AbstractContextManager[object]:
        """Inside, convolutions and products run in bfloat16 if that is the precision."""
        if self.precision != "bfloat16":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def compiled(self, full: bool) -> AbstractContextManager[object]:
        """Inside, compiled networks run as they are written unless the batch is full.

        Each size would be compiled for itself, and from the ninth on none would be: what ran before would decide the last bits.
        """
        if full or not self.compile:
            return nullcontext()
        eager: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
        return eager

    @contextmanager
    def deterministic(self) -> Iterator[None]:
        """Inside, CUDA takes the same kernels in every run where there is a choice; afterwards its settings are as before.

        A layer for which there is no such kernel warns and runs (torch's `use_deterministic_algorithms`).
        """
        if self.device.type != "cuda":
            yield
            return
        # cuBLAS reads this when it is first used; without it its products may differ from run to run.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        cudnn, extra = torch.backends.cudnn, torch.utils.deterministic
        before = cudnn.benchmark, cudnn.deterministic, extra.fill_uninitialized_memory  # type: ignore[attr-defined]
        strict, warns = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        cudnn.benchmark, cudnn.deterministic = False, True
        extra.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            cudnn.benchmark, cudnn.deterministic, extra.fill_uninitialized_memory = before  # type: ignore[attr-defined]
            torch.use_deterministic_algorithms(strict, warn_only=warns)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor of the CPU on `device`, without waiting for what that has still to do: on CUDA through pinned memory."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def wide(device: torch.device) -> torch.dtype:
    """For sums over many batches: float64, or float32 where the device has nothing wider."""
    return torch.float32 if device.type == "mps" else torch.float64


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`, with its number, if it is there; "auto" takes CUDA, then MPS, then the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is unknown; use auto, cpu, cuda, cuda:1 or mps") from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type == "mps" and torch.backends.mps.is_available():
        return torch.device("mps", 0)
    if device.type == "cuda" and torch.cuda.is_available():
        index = torch.cuda.current_device() if device.index is None else device.index
        if index < torch.cuda.device_count():
            return torch.device("cuda", index)
    raise ConfigError(f"device {name!r} is not there; this machine and its torch have {', '.join(_present())}")


def resolve(
    device: torch.device,
    precision: Precision | Literal["auto"] = "auto",
    channels_last: bool | Literal["auto"] = "auto",
    compile: bool | Literal["auto"] = "auto",
    replay: bool | Literal["auto"] = "auto",
) -> Numerics:
    """Replaces "auto" by what is fast on `device`, without changing what cannot be had: that is a ConfigError.

    precision: bfloat16 where the device computes it natively, else float32. channels_last: on CUDA and
    CPU, where it is faster. compile: on CUDA with Triton. replay: training steps as CUDA graphs, on CUDA.
    """
    if precision not in ("auto", "float32", "bfloat16", "float64"):
        raise ConfigError(f"precision is {precision!r}; it must be auto, float32, bfloat16 or float64")
    if device.type == "mps" and precision == "float64":
        raise ConfigError("precision float64 does not exist on mps; use device cpu")
    cuda = device.type == "cuda"
    if precision == "auto":
        precision = "bfloat16" if native_bfloat16(device) else "float32"
    if channels_last == "auto":
        channels_last = cuda or device.type == "cpu"
    if compile == "auto":
        compile = cuda and find_spec("triton") is not None
    if replay is True and not cuda:
        raise ConfigError("replay = true: steps are replayed on CUDA only; use auto")
    return Numerics(device, precision, channels_last, compile, cuda and replay is not False)


def native_bfloat16(device: torch.device) -> bool:
    """Whether `device` has instructions for bfloat16; emulated, it is slower than float32.

    On a CPU these are x86's AVX512-BF16 and AMX. (torch.ops.mkldnn._is_mkldnn_bf16_supported() is no answer: it
    is also true where oneDNN emulates bfloat16 with plain AVX512.)
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # These private queries are in torch 2.9 to 2.14. Where one is missing, float32 is never wrong.
    queries = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(bool(getattr(torch.cpu, query, bool)()) for query in queries)


def _present() -> list[str]:
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]
