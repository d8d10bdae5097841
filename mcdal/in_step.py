"""Keeps the networks of a training equal in all processes, whoever they belong to."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from mcdal.ranks import Ranks
from mcdal.synced import synced


class InStep:
    """Of one training. parts: networks and optimizers by name; what is neither is left alone."""

    def __init__(self, ranks: Ranks, parts: Mapping[str, object]):
        self._ranks = ranks
        self._modules = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
        self._optimizers = [part for part in parts.values() if isinstance(part, torch.optim.Optimizer)]
        self._loose: list[Tensor] = []

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Inside, each optimizer steps down the mean gradient of all processes, from the weights of rank 0.

        The gradients of an optimizer travel in one message before its step. DistributedDataParallel would send them sooner, but
        cuts them in other pieces after its first step than in it, so that a continued training would differ in the last bits.
        """
        if self._ranks.size == 1:
            yield
            return
        self._ranks.from_first([t for module in self._modules.values() for t in _tensors(module)])
        hooks = [optimizer.register_step_pre_hook(self._average) for optimizer in self._optimizers]
        try:
            with synced(self._modules.values()) as self._loose:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def begin_step(self) -> None:
        """Buffers that nobody keeps equal are those of rank 0, as with DistributedDataParallel."""
        self._ranks.from_first(self._loose)

    def end(self) -> None:
        """TrainingError where networks have come apart, such as by an optimizer that is not among the parts."""
        self.begin_step()
        self._ranks.refuse_apart({name: _tensors(module) for name, module in self._modules.items()})

    def _average(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """What one process uses and another does not has a gradient of 0 there, as its rows have in the whole batch."""
        weights = [
            w for group in optimizer.param_groups for w in group["params"] if w.requires_grad or w.grad is not None
        ]
        if not weights:
            return
        grads = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        own = [w.grad is not None for w in weights]
        # The shares of processes that have a gradient travel in the same message, and are waited for only by who lacks one.
        shares = grads[0].new_ones(len(own)) if all(own) else grads[0].new_tensor(own)
        self._ranks.average([*grads, shares])
        if not all(own):
            for weight, grad, share in zip(weights, grads, shares.tolist(), strict=True):
                weight.grad = grad if share > 0 else None


def _tensors(module: nn.Module) -> list[Tensor]:
    """Weights and buffers; those of a lazy layer are not there before its first batch."""
    both = [*module.parameters(), *module.buffers()]
    return [tensor for tensor in both if not isinstance(tensor, (UninitializedParameter, UninitializedBuffer))]
