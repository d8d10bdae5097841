"""What is sent to another process: arrays that lie in a file are sent by its name, so that all processes share its pages."""

import io
import mmap
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from mcdal.errors import ConfigError

LARGE = 2**20
"""Bytes from which on an array is looked at."""


DEEP = 20
"""So many steps into an object the part that cannot be sent is looked for."""


def packed(parts: Mapping[str, object], wanted_by: str, dumps: Callable[[object], bytes] | None = None) -> bytes:
    """ConfigError that names what cannot be sent.

    parts: by their names in errors. wanted_by: the field that asks for other processes. dumps: pickles in another way.
    """
    dumps = dumps or _bytes
    try:
        return dumps(dict(parts))
    except Exception as error:  # whatever somebody's class raises when it is asked for its state
        place, part, reason = _refused(parts, error, dumps)
        kind = part if isinstance(part, (type, FunctionType)) else type(part)
        if isinstance(part, (type, FunctionType)) or "<locals>" in kind.__qualname__:
            advice = "Define it at the top of a file that can be imported; a lambda cannot be sent"
        else:
            advice = "Let whoever holds it leave it out in `__getstate__`, and make it anew where it is used"
        raise ConfigError(
            f"{wanted_by}: {place} ({kind.__qualname__}) cannot be sent to another process: {reason}. {advice}"
        ) from error


def _refused(
    parts: Mapping[str, object], error: Exception, dumps: Callable[[object], bytes]
) -> tuple[str, object, Exception]:
    """Of what cannot be sent the innermost part: where it is, the part itself, and why."""
    place, reason = ", ".join(parts), error
    part: object = parts
    inside, seen = dict(parts), {id(parts)}
    for _ in range(DEEP):
        refused = ((name, held, why) for name, held in inside.items() if (why := _why_not(held, dumps)) is not None)
        found = next(((name, held, why) for name, held, why in refused if id(held) not in seen), None)
        if found is None:
            break
        place, part, reason = found
        seen.add(id(part))
        inside = {f"{place}{step}": held for step, held in _inside(part).items()}
    return place, part, reason


def _why_not(value: object, dumps: Callable[[object], bytes]) -> Exception | None:
    try:
        dumps(value)
    except Exception as error:
        return error
    return None


def _inside(value: object) -> dict[str, object]:
    """The parts of an object that are sent with it, by how each is reached."""
    if isinstance(value, Mapping):
        return {f"[{key!r}]": part for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return {f"[{i}]": part for i, part in enumerate(value)}
    if isinstance(value, partial):
        return {".func": value.func, ".args": value.args, ".keywords": value.keywords}
    if isinstance(value, MethodType):
        return {".__self__": value.__self__}
    if isinstance(value, (type, FunctionType)):
        return {}
    try:
        state: object = value.__getstate__()
    except Exception:  # that is then the reason
        return {}
    return {f".{name}": part for name, part in state.items()} if isinstance(state, dict) else {}


def _bytes(value: object) -> bytes:
    sink = io.BytesIO()
    _Pickler(sink, pickle.HIGHEST_PROTOCOL).dump(value)
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
