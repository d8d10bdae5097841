"""Random streams: every draw has an address, so that nothing has to be remembered to continue a killed run.

A stream's seed is a hash of the run's seed and of what it is for (`stream(seed, "order", round, epoch)`). No two purposes
share a stream, so a strategy cannot shift the random numbers of the task model, and step 5,000 can be drawn without
drawing the 4,999 before it.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def stream(seed: int, *address: str | int) -> int:
    """A 63-bit seed for one purpose, the same on every machine and in every process."""
    text = "/".join([str(seed), *map(str, address)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_generator(seed: int, *address: str | int) -> np.random.Generator:
    """A numpy generator at the start of one stream."""
    return np.random.default_rng(stream(seed, *address))


def reseed(seed: int) -> None:
    """`torch.manual_seed` for every step: the same numbers on the CPU, and on CUDA and MPS once they are in use.

    Torch's own writes down the call stack for each kind of device that is not in use, at more cost than reading a batch.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


def drew_on_device(device: torch.device) -> bool:
    """Whether random numbers were drawn on this CUDA device since it was last seeded; False on others."""
    if device.type != "cuda":
        return False
    return bool(torch.cuda.get_rng_state(device).view(torch.int64)[-1] != 0)  # the seed, then how many were drawn


@contextmanager
def own_randomness() -> Iterator[None]:
    """Whatever is drawn or seeded inside leaves torch's global random state as it was."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield
