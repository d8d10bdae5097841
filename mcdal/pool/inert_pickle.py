"""Reads the pickles that CIFAR comes in without running anything that is in them."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mcdal.errors import PoolError


class InertArray:
    """Stands in for a numpy array while a pickle is read: it keeps the state that it is given and does nothing."""

    state: object = None

    def __new__(cls, *ignored: object) -> "InertArray":
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        self.state = state

    def bytes_2d(self) -> UInt8[np.ndarray, "rows columns"]:
        """The array, if it is a two-dimensional one of uint8 in C order; ValueError otherwise."""
        match self.state:
            case (int(), (int() as rows, int() as columns), InertType(name="u1"), False, (str() | bytes()) as raw):
                content = raw.encode("latin1") if isinstance(raw, str) else raw
                return np.frombuffer(content, dtype=np.uint8).reshape(rows, columns)
        raise ValueError("the array is not a table of bytes")


class InertType:
    """Stands in for a numpy dtype."""

    name: object

    def __new__(cls, name: object = "", *ignored: object) -> "InertType":
        made = super().__new__(cls)
        made.name = name
        return made

    def __setstate__(self, state: object) -> None:
        pass


class InertText:
    """Stands in for `codecs.encode`, which Python 3 writes for bytes."""

    def __new__(cls, text: str, encoding: str) -> bytes:  # type: ignore[misc]
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"text in the encoding {encoding!r}")
        return text.encode("latin1")

    def __setstate__(self, state: object) -> None:
        pass


# Numpy's own callables are not let in: a crafted dtype or array state could reach past the array's memory.
_STAND_INS: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): InertArray,
    ("numpy._core.multiarray", "_reconstruct"): InertArray,
    ("numpy", "ndarray"): InertArray,
    ("numpy", "dtype"): InertType,
    ("_codecs", "encode"): InertText,
}


class _Refused(pickle.UnpicklingError):
    """The pickle names something that pixels and labels do not need."""


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise _Refused(f"{module}.{name}") from None


def read_inert(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle: text, numbers, lists and `InertArray`s. PoolError names what it will not load."""
    try:
        with path.open("rb") as file:
            # latin1 keeps the bytes of Python 2's strings.
            content = _InertUnpickler(file, encoding="latin1").load()
    except _Refused as refused:
        raise PoolError(
            f"{path} asks to load {refused}, which images and labels do not need: it was not run. "
            "Get the file from its original source again."
        ) from None
    except Exception as error:  # a broken pickle can raise nearly anything
        raise PoolError(f"{path} is not a readable pickle: {type(error).__name__}: {error}") from error
    if not isinstance(content, dict):
        raise PoolError(f"{path} holds a {type(content).__name__}, not the dictionary that CIFAR comes in")
    # Pickles written by other tools hold the names as bytes.
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}
