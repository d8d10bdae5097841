"""Batches of noise for strategies that ask for more than the task model gets."""

import torch

from mcdal.values import Batch


def images(n, seed):
    return torch.randn(n, 3, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def source(labeled, purpose, first, whole=False):
    """Batches of a purpose's own: of 5 labeled or 4 unlabeled images."""
    for number in range(first, 100):
        n = 5 if labeled else 4
        ids = tuple(f"{purpose} {labeled} {number} {i}" for i in range(n))
        yield Batch(ids, images(n, 1000 * labeled + number), torch.arange(n) % 3 if labeled else None)
