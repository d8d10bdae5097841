"""What is sent to another process: arrays that lie in a file are sent by its name, so that all processes share its pages."""

import io
import mmap
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from mcdal.errors import ConfigError

LARGE = 2**20
"""Bytes from which on an array is looked at."""


def packed(value: object, wanted_by: str) -> bytes:
    """ConfigError where something cannot be sent. wanted_by: the field that asks for other processes."""
    sink = io.BytesIO()
    try:
        _Pickler(sink, pickle.HIGHEST_PROTOCOL).dump(value)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{wanted_by}: {error}, so it cannot be sent to another process. Define strategies, networks and sources at the top "
            "of a file that can be imported, and let them hold no lambda"
        ) from error
    return sink.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.nbytes >= LARGE and value.flags.c_contiguous:
            file = _file_of(value)
            if file is not None:
                return _mapped, (*file, value.dtype, value.shape)
        return NotImplemented


def _file_of(array: np.ndarray) -> tuple[Path, int] | None:
    """The file that the array is a view of, and where it begins there; None for an array in memory.

    A map that copies what is written (as pools have them, whose arrays nobody writes to) is taken for the file.
    """
    base: Any = array
    while base is not None and not isinstance(getattr(base, "base", None), mmap.mmap):
        base = getattr(base, "base", None)
    if not isinstance(base, np.memmap) or base.filename is None or base.mode not in ("r", "c"):
        return None
    memory: Any = base.base
    start = base.offset - base.offset % mmap.ALLOCATIONGRANULARITY  # where the map itself begins
    return Path(str(base.filename)), start + _address(array) - _address(np.frombuffer(memory, np.uint8))


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def _mapped(file: Path, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    return np.memmap(file, dtype, "c", offset, shape)
