"""How far a pass is, how fast, and how long it still takes; told as events of the kind "measure"."""

import time
from collections.abc import Callable, Sequence

from mcdal.events import Listener
from mcdal.pool.sharded import Shard

SECONDS_BETWEEN = 0.2


class Progress:
    """Rows by worker. Those of a shard that is lost with its worker are taken back.

    Each event has: done and total rows, resumed (rows that an earlier pass had measured), shards and shards_done,
    rows_per_second of this pass, seconds_left (absent at first), and workers (rows a second of each, by name).
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        kept: Sequence[Shard],
        listen: Listener,
        now: Callable[[], float] = time.monotonic,
    ):
        self._listen, self._now = listen, now
        self._total, self._shards = sum(shard.size for shard in shards), len(shards)
        self._resumed, self._shards_done = sum(shard.size for shard in kept), len(kept)
        self._finished = 0  # rows of shards whose files are there
        self._in_hand: dict[str, int] = {}
        self._by: dict[str, tuple[float, int]] = {}  # when each worker began, and rows of its finished shards
        self._begun: float | None = None
        self._told = -1.0

    def began(self, worker: str) -> None:
        """A worker takes up a shard."""
        now = self._now()
        self._begun = self._begun if self._begun is not None else now
        self._by.setdefault(worker, (now, 0))
        self._in_hand[worker] = 0

    def advanced(self, worker: str, rows: int) -> None:
        """It has measured so many rows of the shard in its hand."""
        self._in_hand[worker] = rows
        if self._now() - self._told >= SECONDS_BETWEEN:
            self._tell()

    def finished(self, worker: str, shard: Shard) -> None:
        """The files of a shard are there."""
        since, rows = self._by.get(worker, (self._now(), 0))
        self._by[worker] = since, rows + shard.size
        self._in_hand.pop(worker, None)
        self._finished += shard.size
        self._shards_done += 1
        self._tell()

    def lost(self, worker: str) -> None:
        """Nothing comes any more of the shard in its hand, nor from this worker."""
        self._in_hand.pop(worker, None)
        self._by.pop(worker, None)

    def notice(self, text: str) -> None:
        self._listen("notice", text=text)

    def _tell(self) -> None:
        now = self._now()
        self._told = now
        new = self._finished + sum(self._in_hand.values())
        done = self._resumed + new
        fields: dict[str, object] = {}
        spent = 0.0 if self._begun is None else now - self._begun
        if spent > 0 and new:
            fields["rows_per_second"] = new / spent
            fields["seconds_left"] = (self._total - done) * spent / new
        rates = {
            worker: (rows + self._in_hand.get(worker, 0)) / (now - since)
            for worker, (since, rows) in self._by.items()
            if now > since
        }
        self._listen(
            "measure", done=done, total=self._total, resumed=self._resumed, shards=self._shards,
            shards_done=self._shards_done, workers=rates, **fields,
        )  # fmt: skip
