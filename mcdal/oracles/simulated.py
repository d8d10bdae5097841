"""An oracle that knows the truth and answers at once: for replaying a labeled data set."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import numpy as np
from jaxtyping import UInt8

from mcdal.oracles.base import Oracle
from mcdal.pool.base import Pool
from mcdal.pool.masks import Masks
from mcdal.values import Ids, Label


class Simulated(Oracle):
    """Answers with the true class index of `truth`, by sample id, or with the mask of that number."""

    def __init__(self, truth: Mapping[str, int], by: str = "simulated", masks: Masks | None = None):
        self._truth = truth
        self._by = by
        self._masks = masks
        self._asked: Ids = ()

    @classmethod
    def of(cls, pool: Pool) -> "Simulated":
        """Answers with the pool's own true labels."""
        return cls(pool.truth(), masks=pool.masks)

    def ask(self, ids: Ids) -> None:
        self._asked = ids

    def answers(self) -> Iterable[Label]:
        return self.said(self._asked)

    def said(self, ids: Ids) -> list[Label]:
        """The answers to these."""
        now = datetime.now(UTC)  # all at once, and the clock may take longer than the answer
        return [Label(id, self._said(self._truth[id]), self._by, now) for id in ids]

    def _said(self, value: int) -> int | UInt8[np.ndarray, "h w"]:
        return value if self._masks is None else self._masks[np.array([value])][0]
