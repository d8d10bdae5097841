"""One run of a comparison, and where it stands."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from mcdal.command import Command
from mcdal.console import Outlook
from mcdal.plan import Plan
from mcdal.strategies.base import Strategy

State = Literal["waiting", "running", "done", "failed"]


@dataclass
class Cell:
    """A run that is wanted. value: its headline metric of the last finished round. why: how it failed.

    varied: fields that not all cells have alike, beside the strategy's.
    """

    command: Command
    plan: Plan
    varied: Collection[str] = ()
    state: State = "waiting"
    rounds_done: int = 0
    labels: int = 0
    value: float | None = None
    why: str = ""
    seconds: float | None = None
    """That it took or, while it runs, is expected to take, from the start of this process."""
    now: Callable[[], float] = field(default=time.monotonic, repr=False)

    def __post_init__(self) -> None:
        self._outlook = Outlook(self.now)
        self._begun = 0.0

    @property
    def title(self) -> str:
        """Of its line in the table: the strategy, what is set on it, and what is varied."""
        changed = [
            f"{k.removeprefix('strategy.')}={v}"
            for k, v in self.plan.overrides.items()
            if k.startswith("strategy.") or k in self.varied
        ]
        return self.plan.strategy_name + (f"[{','.join(changed)}]" if changed else "")

    @property
    def rounds(self) -> int:
        return self.plan.config.protocol.planned

    @property
    def left(self) -> float | None:
        """Seconds until it is done, as far as a running one can tell."""
        return self._outlook.run_left if self.state == "running" else None

    def begin(self) -> None:
        self.state, self._begun = "running", self.now()

    @property
    def strategy(self) -> Strategy:
        return self.plan.config.strategy

    def hear(self, kind: str, said: dict[str, Any]) -> bool:
        """An event of its process; False where it is none of ours, as a library of the user's may print."""
        try:
            self._outlook.hear(kind, said)
            if kind == "round":
                self.rounds_done = int(said["round"])
            elif kind == "result":
                self.rounds_done, self.labels = int(said["round"]) + 1, int(said["labels"])
                names = [name for name in ("test/mean_iou", "test/accuracy") if name in said]
                self.value = float(said[names[0]]) if names else self.value
        except (KeyError, TypeError, ValueError):
            return False
        if self._outlook.run_left is not None:
            self.seconds = self.now() - self._begun + self._outlook.run_left
        return True

    def end(self, why: str = "") -> None:
        """Its process is gone; why: how it failed, or nothing."""
        self.state, self.why = ("failed", why) if why else ("done", "")
        self.seconds = None if why else self.now() - self._begun
