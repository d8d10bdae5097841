"""An oracle that knows the truth and answers at once: for replaying a labeled data set."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from mcdal.oracles.base import Oracle
from mcdal.pool.base import Pool
from mcdal.values import Ids, Label


class Simulated(Oracle):
    """Answers with the true class index of `truth`, by sample id."""

    def __init__(self, truth: Mapping[str, int], by: str = "simulated"):
        self._truth = truth
        self._by = by
        self._asked: Ids = ()

    @classmethod
    def of(cls, pool: Pool) -> "Simulated":
        """Answers with the pool's own true labels."""
        return cls(pool.truth())

    def ask(self, ids: Ids) -> None:
        self._asked = ids

    def answers(self) -> Iterable[Label]:
        now = datetime.now(UTC)  # all at once, and the clock may take longer than the answer
        return [Label(id, self._truth[id], self._by, now) for id in self._asked]
