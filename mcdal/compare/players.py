"""Who plays the cells of a comparison: processes of this machine, or tasks on a cluster."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from mcdal.compare.cell import Cell


@dataclass(frozen=True)
class Word:
    """What players tell of a run.

    begin: it is at work. event: one of its own, `said`. note: something that a person should know, `why`. end: it is over, and
    failed if there is a `why`. lost: it is gone through no fault of its own, and may be played again.
    """

    kind: Literal["begin", "event", "note", "end", "lost"]
    run_id: str
    why: str = ""
    said: Mapping[str, Any] = field(default_factory=dict)


class Players(ABC):
    """They are ready inside a `with` block, which raises what stands against playing at all."""

    @property
    @abstractmethod
    def at_once(self) -> int:
        """How many cells they play at once, at most."""

    @abstractmethod
    def have_room(self) -> bool:
        """Whether they can take one more now."""

    @abstractmethod
    def begin(self, cell: Cell) -> None:
        """Takes a cell: to `listen` it is told when it is at work."""

    @abstractmethod
    def listen(self) -> Iterator[Word]:
        """What was said since. Waits for it, but not longer than half a second or so."""

    @abstractmethod
    def stop(self) -> None:
        """Whatever still runs is asked to stop as by Ctrl-C, which keeps its state, and ended where it does not."""

    def __enter__(self) -> "Players":
        return self

    def __exit__(  # noqa: B027
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing runs any more."""


def log_of(out: Path, run_id: str) -> Path:
    """What a run writes to standard error."""
    return out / "runs" / run_id / "compare.log"
