"""A pass that leaves no trace: neither gradient nor BatchNorm statistic remembers it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def aside(model: nn.Module) -> Iterator[None]:
    """Inside, the model runs in its present mode without gradient; afterwards all its buffers are bit for bit as before.

    In train mode BatchNorm normalises with the batch's own statistics, as it does for the labeled images, and forgets them.
    """
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with torch.no_grad():
            yield
    finally:
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)
