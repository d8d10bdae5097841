"""What is true of a large pool, looked up instead of held."""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Int

from mcdal.ids import MappedIds


class Truth(Mapping[str, int]):
    """The true class of each sample of a large pool, looked up when it is asked for."""

    def __init__(self, ids: MappedIds, targets: Int[np.ndarray, " n"]):
        self._ids, self._targets = ids, targets

    def __getitem__(self, id: str) -> int:
        place = self._ids.position(id)
        if place < 0:
            raise KeyError(id)
        return int(self._targets[place])

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)
