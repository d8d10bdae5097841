"""Encoded images in a fixed order: files of a folder, or rows of Parquet shards."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Int

from mcdal.pool.decode import Bad, Decoded, Decoder, Encoded
from mcdal.values import Ids

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 8
"""Images that one thread decodes before it hands them over; this times the threads is all that is in memory."""


@dataclass(frozen=True, eq=False)
class EncodedImages(ABC):
    """Images before they are decoded, with their class indices."""

    ids: Ids
    targets: Int[np.ndarray, " n"]

    @abstractmethod
    def chunks(self) -> Iterator[list[Encoded]]:
        """All images in the order of `ids`, a few at a time."""


@dataclass(frozen=True, eq=False)
class EncodedFiles(EncodedImages):
    """One file an image."""

    paths: tuple[Path, ...] = ()

    def chunks(self) -> Iterator[list[Encoded]]:
        for start in range(0, len(self.paths), CHUNK):
            yield list(self.paths[start : start + CHUNK])


@dataclass(frozen=True, eq=False)
class EncodedRows(EncodedImages):
    """Rows of Parquet files. `wanted` has one entry a row of all files, True for those that belong here."""

    files: tuple[Path, ...] = ()
    column: str = ""
    wanted: Bool[np.ndarray, " rows"] = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def chunks(self) -> Iterator[list[Encoded]]:
        import pyarrow.parquet

        row = 0
        for path in self.files:
            with pyarrow.parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=CHUNK * 8, columns=[self.column]):
                    values = batch.column(0).to_pylist()
                    kept = [value for value, keep in zip(values, self.wanted[row:], strict=False) if keep]
                    row += len(values)
                    encoded: list[Encoded] = [v.get("bytes") if isinstance(v, dict) else v for v in kept]
                    yield from (encoded[start : start + CHUNK] for start in range(0, len(encoded), CHUNK))


def decode_all(images: EncodedImages, decoder: Decoder, threads: int) -> Iterator[Decoded | Bad]:
    """Every image decoded, in order."""
    for chunk in in_threads(partial(_decode, decoder), images.chunks(), threads):
        yield from chunk


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """`work` of every item, in order. Threads are enough: the decoders leave Python's lock while they work."""
    if threads <= 1:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _decode(decoder: Decoder, chunk: Sequence[Encoded]) -> list[Decoded | Bad]:
    return [decoder.decode(encoded) for encoded in chunk]
