"""What travels to the ranks: large arrays apart from the rest, so that all ranks of a machine share one copy."""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import cloudpickle
import numpy as np

from mcdal.ids import MappedIds
from mcdal.passes.travel import own_files_by_value
from mcdal.pickling import LARGE, packed


@dataclass(frozen=True)
class Parcel:
    """References of Ray's to what lies in its object store."""

    content: Any
    arrays: tuple[Any, ...]

    def opened(self, ray: Any) -> dict[str, Any]:
        """The parts by their names. Large arrays are not copied, and nobody may write to them."""
        parts: dict[str, Any] = pickle.loads(ray.get(self.content), buffers=ray.get(list(self.arrays)))
        return parts


def put(ray: Any, parts: Mapping[str, object], wanted_by: str) -> Parcel:
    """Puts the parts into the object store. ConfigError that names what cannot be sent."""
    arrays: list[pickle.PickleBuffer] = []
    content = packed(parts, wanted_by, partial(_dumps, arrays=arrays))
    return Parcel(ray.put(content), tuple(ray.put(np.frombuffer(array.raw(), np.uint8)) for array in arrays))


def _dumps(value: object, arrays: list[pickle.PickleBuffer]) -> bytes:
    def within(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < LARGE:
            return True
        arrays.append(buffer)
        return False

    sink = io.BytesIO()
    with own_files_by_value():
        _Packer(sink, protocol=5, buffer_callback=within).dump(value)
    return sink.getvalue()


def _ids(*parts: Any) -> MappedIds:
    return MappedIds.of_parts(*parts)


class _Packer(cloudpickle.Pickler):
    """What lies in files of this machine is sent by its content: other machines do not see them."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is np.memmap:
            return value.view(np.ndarray).__reduce_ex__(5)
        if type(value) is MappedIds:
            return _ids, value.parts()
        return super().reducer_override(value)
