"""Class probabilities from logits, and large batches in parts: what a processor needs to be quick at either."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

PART = 1 << 20
"""Bytes of logits that are worked on together: all that is made of them stays in a core's cache."""
NARROW = 16
"""Rows of fewer numbers than this do not fill the registers of a processor: torch then takes them one by one."""


def softmax(logits: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """exp(z) / sum exp(z) along `dim`, whatever the width: torch's own is five times slower along a last dimension of 10.

    Narrow rows come back transposed in memory, so that what is computed from them is quick as well. Where gradients are asked
    for it is torch's own, and in at least float32.
    """
    wide = logits if logits.element_size() >= 4 else logits.float()
    if not narrow(wide, dim) or (wide.requires_grad and torch.is_grad_enabled()):
        return wide.softmax(dim)
    return wide.transpose(-1, -2).contiguous().softmax(-2).transpose(-1, -2)


def narrow(logits: Float[Tensor, "..."], dim: int) -> bool:
    """Whether `dim` is the last one, and short, on a processor."""
    last = dim in (-1, logits.ndim - 1) and logits.ndim > 1
    return last and logits.device.type == "cpu" and logits.shape[-1] < NARROW


@torch.no_grad()
def in_parts(score: Callable[..., Tensor], *batches: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """score(*batches), on a processor of some samples after the other; what it gives a sample must depend on that alone.

    Without gradients, so that `score` may work in place on what it made itself.
    """
    size = sum(batch.numel() * batch.element_size() for batch in batches)
    if batches[0].device.type != "cpu" or size <= PART:
        return score(*batches)
    rows = max(1, PART * len(batches[0]) // size)
    return torch.cat([score(*part) for part in zip(*(torch.split(batch, rows) for batch in batches), strict=True)])
