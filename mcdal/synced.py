"""Layers that see more than one image, in processes that train together: as if each had the whole batch.

BatchNorm has the statistics of all parts, dropout the random numbers. A layer changes its class for the time of a training, so
that weights, buffers and names stay where they are.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from mcdal.ranks import of_whole, together

NORMS = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d
DROPOUTS = nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout


@contextmanager
def synced(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """Inside, the layers of these kinds act for the whole batch. Gives all buffers that no such layer keeps equal.

    Only layers of exactly these classes: what a subclass computes is not known here.
    """
    changed: list[tuple[nn.Module, type[nn.Module]]] = []
    loose: dict[int, Tensor] = {}
    parts = [part for module in modules for part in module.modules()]
    opaque = any(part._compiled_call_impl is not None for part in parts)
    for part in parts:
        kind = _kind(part, opaque)
        if kind is not None:
            changed.append((part, type(part)))
            part.__class__ = kind
        if not isinstance(part, (_Norm, _NormOnCuda)):
            loose |= {id(buffer): buffer for buffer in part.buffers(recurse=False)}
    try:
        yield list(loose.values())
    finally:
        for part, before in changed:
            part.__class__ = before


def _kind(part: nn.Module, opaque: bool) -> type[nn.Module] | None:
    on_cuda = any(
        tensor.device.type == "cuda" for tensor in [*part.parameters(recurse=False), *part.buffers(recurse=False)]
    )
    return kinds(opaque).get(nn.SyncBatchNorm if type(part) in NORMS and on_cuda else type(part))


class _NormOnCuda(nn.SyncBatchNorm):
    """PyTorch's own, which is for CUDA alone."""

    process_group = None  # the default one


class _Norm(_BatchNorm):
    """BatchNorm over the parts of all processes, in training; for tensors that gloo can send."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        made, mean, variance, count = _Normalized.apply(input, self.weight, self.bias, self.eps)
        if self.track_running_stats and self.running_mean is not None:
            self._remember(mean, variance * (count / (count - 1)))
        normalized: Tensor = made
        return normalized

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            for running, now in ((self.running_mean, mean), (self.running_var, variance)):
                running.mul_(1 - share).add_(now, alpha=share)


class _OfWhole(nn.Module):
    """Dropout with the random numbers of the whole batch."""

    def forward(self, input: Tensor) -> Tensor:
        return of_whole(input, super().forward) if self.training else super().forward(input)


@cache
def kinds(opaque: bool) -> dict[type[nn.Module], type[nn.Module]]:
    """By which class each one is replaced; those of BatchNorm on CUDA by that of SyncBatchNorm.

    opaque: to the compiler, which then leaves these layers as they are. Asking for that imports it, which takes a while.
    """
    like: dict[type[nn.Module], type[nn.Module]] = {nn.SyncBatchNorm: _NormOnCuda}
    like |= dict.fromkeys(NORMS, _Norm) | dict.fromkeys(DROPOUTS, _OfWhole)
    made: dict[type[nn.Module], type[nn.Module]] = {}
    for kind, base in like.items():
        bases = (base,) if issubclass(base, kind) else (base, kind)
        forward = torch.compiler.disable(base.forward) if opaque else base.forward  # type: ignore[no-untyped-call]
        made[kind] = type(kind.__name__, bases, {"forward": forward})
    return made


class _Normalized(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) weight + bias with the mean and biased variance of all rows of all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        mean, variance, count = _moments(x)
        if count < 2:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.count = eps, count
        ctx.mark_non_differentiable(mean, variance)
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps), mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, variance = ctx.saved_tensors
        scale = mean.new_ones(len(mean)) if weight is None else weight
        of_x, of_weight, of_bias = (torch.zeros_like(t) for t in (x, scale, scale))
        if len(x):  # as if mean and variance were constants
            args = grad, x, scale, mean, variance, None, None, False, ctx.eps, [True, True, True]
            of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(*args)
        sums = torch.stack([of_weight, of_bias]).to(mean.dtype)
        dist.all_reduce(sums)
        slope, (through_variance, through_mean) = (variance + ctx.eps).rsqrt(), sums / -ctx.count
        by_x = scale * slope * slope * through_variance
        shape = -1, *(1,) * (x.ndim - 2)
        of_x = of_x + (scale * slope * through_mean - by_x * mean).view(shape) + by_x.view(shape) * x
        return of_x.to(x.dtype), None if weight is None else of_weight, None if weight is None else of_bias, None


def _moments(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and biased variance of each channel over the rows of all processes, and the number of values of a channel.

    Each process sends the moments of its part, which are put together without cancellation (Chan et al. 1983).
    """
    channels = x.shape[1]
    wide = torch.promote_types(x.dtype, torch.float32)
    mine = torch.zeros(2 * channels + 1, dtype=torch.float64, device=x.device)
    mine[0] = x.numel() / channels
    if len(x):
        blank = torch.zeros(2, channels, dtype=wide, device=x.device)
        # BatchNorm's own kernel: `var_mean` takes ten times as long.
        mine[1:] = torch.cat(torch.batch_norm_update_stats(x, blank[0], blank[1], 0.0))
    gathered = [torch.empty_like(mine) for _ in range(together().size)]
    dist.all_gather(gathered, mine)
    parts = torch.stack(gathered)
    counts, means, variances = parts[:, :1], parts[:, 1 : channels + 1], parts[:, channels + 1 :]
    count = counts.sum()
    mean = (counts * means).sum(0) / count
    variance = (counts * (variances + (means - mean).square())).sum(0) / count
    return mean.to(wide), variance.to(wide), float(count)
