"""Who has made no progress for how long: told of once, and where a limit is set, ended."""

import time
from collections.abc import Callable

SECONDS_OF_SILENCE = 300.0
"""Before a person is told."""


class Watch:
    """longest: seconds without progress after which a worker is to be ended; None: it never is."""

    def __init__(self, longest: float | None, now: Callable[[], float] = time.monotonic):
        self._longest, self._now = longest, now
        self._since: dict[str, float] = {}
        self._told: set[str] = set()

    def heard(self, worker: str) -> None:
        """It begins something, or gets on with it."""
        self._since[worker] = self._now()
        self._told.discard(worker)

    def of(self, worker: str, what: str, does: str) -> tuple[str, str]:
        """A sentence for a person, where one is due, and why it is to be ended, where it is; else empty texts.

        what: it has in hand. does: between its name and that.
        """
        silent = self._now() - self._since.setdefault(worker, self._now())
        over = "" if self._longest is None or silent < self._longest else f"{worker} {does} it for {silent:.0f} s"
        if silent < SECONDS_OF_SILENCE or worker in self._told:
            return "", over
        self._told.add(worker)
        return (
            f"{worker} {does} {what} for {silent / 60:.0f} minutes: it may hang; end it, and another takes over",
            over,
        )
