"""What runs on a cluster's machines: one run, just as `mcdal run` plays it there. It needs this package there."""

import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, nullcontext, redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcdal import loop
from mcdal.command import Command
from mcdal.compare.players import log_of
from mcdal.console import WORDS, json_line
from mcdal.errors import ConfigError, HeldError, McdalError, StoreError
from mcdal.events import Listener

SECONDS_BETWEEN_WORDS = 0.5
SECONDS_TO_BE_HEARD = 10.0
SECONDS_UNTIL_FREE = 180.0
"""So long a run is waited for that somebody holds: a database needs a minute or two to see that a node is gone."""
MARK = "mcdal-folder"


@dataclass(frozen=True)
class Order:
    """A run to play. run_id: that it has on the machine of the driver. folder: the working directory there.

    mark: what the file MARK in `out` says. machine: the only one where the store may be opened, if its rows are in a file.
    """

    command: Command
    run_id: str
    out: Path
    device: str
    folder: Path
    mark: str
    machine: str | None = None


class Mailbox:
    """Keeps what runs tell, each with its id and as a line of JSON, until the driver asks. An actor of the cluster."""

    def __init__(self) -> None:
        self._said: list[tuple[str, str]] = []

    def put(self, run_id: str, line: str) -> None:
        self._said.append((run_id, line))

    def take(self) -> list[tuple[str, str]]:
        said, self._said = self._said, []
        return said


def play_run(order: Order, mailbox: Any) -> str:
    """The task. Why the run failed, or nothing; whatever is raised is of Ray, or a stop."""
    import ray

    def send(line: str) -> None:
        mailbox.put.remote(order.run_id, line)

    try:
        return play(order, send)
    finally:
        with suppress(ray.exceptions.RayError):  # what was sent before has arrived when this has
            ray.get(mailbox.put.remote(order.run_id, json_line("over", {})), timeout=SECONDS_TO_BE_HEARD)


def play(order: Order, send: Callable[[str], None], patience: float = SECONDS_UNTIL_FREE) -> str:
    """The run, told in lines of JSON; why it failed, in the words that `mcdal run` would use."""
    tell = _telling(send)
    tell("begin", machine=platform.node())
    try:
        with chdir(order.folder) if order.folder.is_dir() else nullcontext():
            _refuse_other_places(order)
            with _log(log_of(order.out, order.run_id)):
                _play(order, tell, patience)
    except McdalError as error:
        return str(error)
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error} (all of it: {log_of(order.out, order.run_id)})"
    return ""


def _play(order: Order, tell: Listener, patience: float) -> None:
    plan = order.command.plan()
    if plan.run_id != order.run_id:
        raise ConfigError(
            f"on {platform.node()} this command means {plan.run_id}, where it was given {order.run_id}: install the same "
            "version on all machines, and give files that all of them see"
        )
    end, told = time.monotonic() + patience, False
    while True:
        try:
            loop.run(plan, order.out, device=order.device, listen=tell)
            return
        except HeldError as error:
            if time.monotonic() >= end:
                raise
            if not told:
                tell("note", text=f"waits: {error}")
            told = True
        time.sleep(1.0)


def _refuse_other_places(order: Order) -> None:
    here = platform.node()
    try:
        mark = (order.out / MARK).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        mark = None
    if mark != order.mark:
        raise StoreError(f"{here} does not see the folder {order.out}: give an --out on a disk that all machines share")
    if order.machine not in (None, here):
        raise StoreError(refusal_of_sqlite(order.out, f"{here} is another machine than {order.machine}"))


def refusal_of_sqlite(out: Path, why: str) -> str:
    """In words: SQLite's locks and its log hold between processes of one machine alone."""
    return (
        f"{out} keeps its rows in a file of SQLite, which is for one machine, and {why}: give --database "
        "postgresql://user@host/name with a new --out (docs/postgresql.md), or a cluster of this machine alone, --on local"
    )


@contextmanager
def _log(path: Path) -> Iterator[None]:
    """What goes to standard error goes there, and the traceback of what goes wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", buffering=1) as log, redirect_stderr(log):
        try:
            yield
        except McdalError as error:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201
            raise
        except BaseException:
            traceback.print_exc()
            raise


def _telling(send: Callable[[str], None]) -> Listener:
    """Progress is told now and then, all else at once."""
    spoken = dict.fromkeys(WORDS, 0.0)

    def tell(kind: str, **fields: Any) -> None:
        now = time.monotonic()
        if kind in spoken:
            if now - spoken[kind] < SECONDS_BETWEEN_WORDS:
                return
            spoken[kind] = now
        send(json_line(kind, fields))

    return tell
