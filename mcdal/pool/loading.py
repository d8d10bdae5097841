"""Images that are decoded again for every batch, in worker processes, because all of them would not fit anywhere."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mcdal.errors import PoolError
from mcdal.pool.base import Images, Positions
from mcdal.pool.decode import Bad, Decoder
from mcdal.ranks import together
from mcdal.values import Ids

Read: TypeAlias = Callable[[Positions], Shaped[Tensor, "b h w c"]]


class FileImages(Images):
    """Image files, all of which could be decoded when the pool was opened. Grey ones are given `channels` channels."""

    def __init__(self, ids: Ids, paths: tuple[Path, ...], decoder: Decoder, channels: int, workers: int):
        self.ids = ids
        self._paths = paths
        self._decoder = decoder
        self._channels = channels
        self._workers = workers

    def batches(self, positions: Iterable[Positions], device: torch.device) -> Iterator[Shaped[Tensor, "b c h w"]]:
        return load(self._read, positions, self._workers, device)

    def read(self, position: int) -> Shaped[Tensor, "h w c"]:
        return torch.from_numpy(self._pixels(position).copy())  # Pillow's own memory may not be written

    def _read(self, positions: Positions) -> Shaped[Tensor, "b h w c"]:
        return torch.from_numpy(np.stack([self._pixels(int(position)) for position in positions]))

    def _pixels(self, position: int) -> UInt8[np.ndarray, "h w c"]:
        with warnings.catch_warnings():
            # What Pillow warns of was judged when the pool was opened.
            warnings.simplefilter("ignore")
            decoded = self._decoder.decode(self._paths[position])
        if isinstance(decoded, Bad):
            raise PoolError(f"{self._paths[position]} has changed since the pool was opened: {decoded.reason}")
        return with_channels(decoded.pixels, self._channels)


def with_channels(pixels: Shaped[np.ndarray, "*n h w c"], channels: int) -> Shaped[np.ndarray, "*n h w channels"]:
    """Grey repeated to colour where the other images have it."""
    return pixels if pixels.shape[-1] == channels else np.repeat(pixels, channels, axis=-1)


def load(
    read: Read, positions: Iterable[Positions], workers: int, device: torch.device
) -> Iterator[Shaped[Tensor, "b c h w"]]:
    """What `read` gives for each array of positions, in order, read ahead by `workers` processes (0: in this one)."""
    reader = _Reader(read)
    if workers:
        batches = _ahead(reader, positions, workers, pin=device.type == "cuda")
    else:
        batches = (reader[chosen] for chosen in positions)
    with closing(batches):
        for batch in batches:
            if isinstance(batch, PoolError):
                raise batch
            yield batch.to(device, non_blocking=True).permute(0, 3, 1, 2)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Reader(Dataset[Any]):
    """A batch an item: an error is handed over as it is, because the loader would bury it in a traceback."""

    def __init__(self, read: Read):
        self._read = read

    def __getitem__(self, positions: Positions) -> Shaped[Tensor, "b h w c"] | PoolError:
        try:
            return self._read(positions)
        except PoolError as error:
            return error


def _ahead(reader: _Reader, positions: Iterable[Positions], workers: int, pin: bool) -> Generator[Any, None, None]:
    stopped = False

    def wanted() -> Iterator[Positions]:
        for chosen in positions:
            if stopped:
                return
            yield chosen

    with warnings.catch_warnings():
        # Python warns of forking beside threads; the workers use none of the parent's.
        warnings.simplefilter("ignore")
        loader = DataLoader(
            reader,
            batch_size=None,
            sampler=wanted(),
            num_workers=min(workers, max(1, processors() // together().size)),
            collate_fn=_as_it_is,
            pin_memory=pin,
            # Its own generator: the loader would otherwise draw a number from the global one.
            generator=torch.Generator(),
        )
        batches = iter(loader)
    try:
        yield from batches
    finally:
        # A loader ends its workers when it is exhausted. Dropped before that it may wait ten seconds for them.
        stopped = True
        with suppress(Exception):
            deque(batches, maxlen=0)


def _as_it_is(batch: Any) -> Any:
    return batch
