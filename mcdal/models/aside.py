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
    norms = _tracking(model)
    kept = [(buffer, buffer.clone()) for buffer in foreign_buffers(model)]
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
    theirs = {id(buffer) for norm in _tracking(model) for buffer in norm.buffers(recurse=False)}
    return [buffer for buffer in model.buffers() if id(buffer) not in theirs]


def _tracking(model: nn.Module) -> list[_NormBase]:
    return [
        part for part in model.modules() if isinstance(part, _NormBase) and part.training and part.track_running_stats
    ]
