"""A pass that leaves no trace: neither gradient nor BatchNorm statistic remembers it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


@contextmanager
def aside(model: nn.Module) -> Iterator[None]:
    """Inside, the model runs in its present mode without gradient; afterwards all its buffers are bit for bit as before.

    In train mode BatchNorm normalises with the batch's own statistics, as it does for the labeled images, and forgets them.
    """
    norms, others = _walked(model)
    kept = [(buffer, buffer.clone()) for buffer in others]
    for norm in norms:  # told not to track: nothing to copy back, of some sixty buffers in a ResNet-18
        norm.track_running_stats = False
    try:
        with torch.no_grad():
            yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)


def foreign_buffers(model: nn.Module) -> list[Tensor]:
    """The buffers that a pass in the model's present mode might change and that are not BatchNorm's statistics."""
    return _walked(model)[1]


def _walked(model: nn.Module) -> tuple[list[_NormBase], list[Tensor]]:
    """BatchNorm layers that a pass would change, and the buffers that are not theirs. One walk: small networks feel it."""
    norms: list[_NormBase] = []
    theirs: set[int] = set()
    others: list[Tensor] = []
    for part in model.modules():
        own = [buffer for buffer in part._buffers.values() if buffer is not None]
        if isinstance(part, _NormBase) and part.training and part.track_running_stats:
            norms.append(part)
            theirs.update(map(id, own))
        else:
            others += own
    unique = {id(buffer): buffer for buffer in others}
    return norms, [buffer for key, buffer in unique.items() if key not in theirs]
