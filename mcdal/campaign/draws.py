"""What is drawn by the seed and an image's id alone, so that it stays so whatever is added."""

import numpy as np
from jaxtyping import UInt64

from mcdal.errors import PoolError
from mcdal.pool.streaming.split import drawn
from mcdal.selection import uniform


def is_audit(seed: int, id: str, below: float) -> bool:
    """Whether an image is of the audit."""
    return uniform(seed, f"audit/{id}") < below


def audit_bound(seed: int, ids: list[str], count: int) -> float:
    """The bound below which exactly `count` of these images lie. PoolError where that leaves none to pick from."""
    if count >= len(ids):
        raise PoolError(f"{count} of {len(ids)} images for the audit leave none to label: take fewer, or add images")
    numbers = sorted(uniform(seed, f"audit/{id}") for id in ids)
    return (numbers[count - 1] + numbers[count]) / 2


def shards_bound(hashes: UInt64[np.ndarray, " n"], seed: int, count: int) -> float:
    """As `audit_bound`, of images in shards, whose numbers are drawn by the hash of their ids."""
    if count >= len(hashes):
        raise PoolError(f"{count} of {len(hashes)} images for the audit leave none to label: take fewer, or add images")
    numbers = np.partition(drawn(hashes, seed), (count - 1, count))
    return (int(numbers[count - 1]) + int(numbers[count])) / 2**65


def is_double(seed: int, id: str, share: float) -> bool:
    """Whether two people are asked about an image."""
    return uniform(seed, f"double/{id}") < share


def place(seed: int, id: str) -> float:
    """Where an image comes among those that are asked about at once."""
    return uniform(seed, f"order/{id}")
