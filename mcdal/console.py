"""Tells a person, or a program, what is going on: bars, plain lines, or lines of JSON."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from mcdal.events import Listener

WORDS = {"prepare": "reading images", "train": "training", "measure": "measuring", "test": "testing"}
SECONDS_BETWEEN_LINES = 60.0


@contextmanager
def listener(quiet: bool, as_json: bool) -> Iterator[Listener]:
    """What to pass as `listen`. Bars go to standard error, results to standard output, so that they can be piped."""
    if as_json:
        yield _print_json
    elif quiet or not _shows_bars():
        yield Lines(quiet).tell
    else:
        with _Bars() as bars:
            yield bars.tell


def duration(seconds: float) -> str:
    """In one unit, as a person would say it: 45 s, 12 min, 3.4 h, 2.1 days."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86400:.1f} days"


class Outlook:
    """How long it still takes: the present phase by its own rate, the whole run by its rounds so far.

    Until a round is over, the run's time comes from the training alone; measuring and testing are seconds beside it.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self._now = now
        self.round = self.rounds = 0
        self.share = 0.0  # of this round that is done
        self.phase_left: float | None = None
        self.run_left: float | None = None
        self._round_began: float | None = None
        self._a_round: float | None = None
        self._phase = ""
        self._first = (0.0, 0)  # when this phase was first heard of, and how much of it was done then
        self._done = 0

    def hear(self, kind: str, fields: dict[str, Any]) -> None:
        """Takes up an event; those that say nothing about time are let pass."""
        if kind == "round":
            self._begin_round(fields["round"], fields["rounds"])
        elif kind in WORDS:
            self._advance(kind, fields["done"], fields["total"])

    def _begin_round(self, round: int, rounds: int) -> None:
        if self._round_began is not None:
            spent = self._now() - self._round_began
            self._a_round = max(spent, self._a_round or 0.0) if self.round else spent  # round 0 measures nothing
        self.round, self.rounds, self.share = round, rounds, 0.0
        self._round_began, self._phase = self._now(), ""
        if self._a_round is not None:
            self.run_left = self._a_round * (rounds - round)

    def _advance(self, kind: str, done: int, total: int) -> None:
        now = self._now()
        if kind != self._phase or done < self._done:
            self._phase, self._first, self.phase_left = kind, (now, done), None
        self._done = done
        since, before = self._first
        if done > before:
            self.phase_left = (now - since) / (done - before) * (total - done)
        if kind == "train":
            self.share = done / max(1, total)
            if self.phase_left is not None:
                self._look_ahead((now - since) / (done - before) * total)
        elif kind == "test":
            self.share = 1.0

    def _look_ahead(self, training: float) -> None:
        if not self.rounds:  # a training that belongs to no run
            return
        assert self.phase_left is not None
        self.run_left = self.phase_left + (self.rounds - self.round - 1) * max(training, self._a_round or 0.0)


def _shows_bars() -> bool:
    console = Console(stderr=True)
    return console.is_terminal and not console.is_dumb_terminal


def json_line(kind: str, fields: Mapping[str, Any]) -> str:
    """Events: run, prepare, round, train, measure, test, result, notice. What is not a number is null, as JSON has no NaN."""
    plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields.items()}
    return json.dumps({"event": kind, **plain}, default=str)


def _print_json(kind: str, **fields: Any) -> None:
    print(json_line(kind, fields), flush=True)  # noqa: T201


class Lines:
    """For logs and pipes: results and problems, and, unless quiet, once a minute where it stands."""

    def __init__(self, quiet: bool, now: Callable[[], float] = time.monotonic):
        self._quiet = quiet
        self._now = now
        self._outlook = Outlook(now)
        self._spoken = now()
        self._what = ""

    def tell(self, kind: str, **fields: Any) -> None:
        self._outlook.hear(kind, fields)
        text = _sentence(kind, fields)
        if kind in WORDS and not self._quiet:
            text = self._progress(kind, fields)
        if text and (kind in ("result", "notice") or not self._quiet):
            _print(text)
            self._spoken = self._now()

    def _progress(self, kind: str, fields: dict[str, Any]) -> str:
        if fields.get("what", "") != self._what:  # reading images begins: it may take minutes
            self._what = fields.get("what", "")
            return self._what
        if self._now() - self._spoken < SECONDS_BETWEEN_LINES:
            return ""
        place = "" if kind == "prepare" or not self._outlook.rounds else f"round {self._outlook.round}: "
        said = [f"{WORDS[kind]} {fields['done']:,}/{fields['total']:,}", _reached(fields)]
        if self._outlook.phase_left is not None:
            said.append(f"{duration(self._outlook.phase_left)} left")
        if self._outlook.run_left is not None:
            said.append(f"the run {duration(self._outlook.run_left)}")
        return place + ", ".join(filter(None, said))


class _Bars:
    """One bar for the run's rounds and one for what is being done now. All but the bars have fixed widths, so nothing jumps."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._one_terminal = sys.stdout.isatty()  # else results go to a file or a pipe, past the bars
        self._progress = Progress(
            TextColumn("{task.description:<16.16}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[count]:>13}", markup=False),
            TextColumn("{task.fields[left]:<11}", markup=False),
            TextColumn("{task.fields[said]:<28}", markup=False),
            console=self._console,
            transient=True,
            expand=True,
            redirect_stdout=self._one_terminal,
        )
        self._outlook = Outlook()
        self._rounds: TaskID | None = None
        self._now: TaskID | None = None

    def __enter__(self) -> "_Bars":
        self._leave_a_margin()
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def tell(self, kind: str, **fields: Any) -> None:
        self._leave_a_margin()
        self._outlook.hear(kind, fields)
        if self._outlook.rounds:
            self._show_round()
        if kind in WORDS:
            self._show_phase(kind, fields)
        if text := _sentence(kind, fields):
            if self._one_terminal:
                self._console.print(text, markup=False, soft_wrap=True)
            else:
                _print(text)

    def _leave_a_margin(self) -> None:
        """The terminal writes ^C where the cursor is: at the end of a full line that would begin another one."""
        self._console.width = max(20, (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 3)

    def _show_round(self) -> None:
        outlook = self._outlook
        shown: dict[str, Any] = {
            "description": f"round {outlook.round}",
            "completed": outlook.round + outlook.share,
            "count": f"{outlook.round}/{outlook.rounds}",
            "left": _left(outlook.run_left),
        }
        if self._rounds is None:
            if self._now is not None:  # images were read before: what is done now is to stand below the rounds
                self._progress.remove_task(self._now)
                self._now = None
            self._rounds = self._progress.add_task(total=outlook.rounds, said="of the whole run", **shown)
        self._progress.update(self._rounds, **shown)

    def _show_phase(self, kind: str, fields: dict[str, Any]) -> None:
        shown: dict[str, Any] = {
            "description": fields.get("what", WORDS[kind]),
            "completed": fields["done"],
            "total": fields["total"],
            "count": f"{fields['done']:,}/{fields['total']:,}",
            "left": _left(self._outlook.phase_left),
            "said": _reached(fields),
        }
        if self._now is None:
            self._now = self._progress.add_task(**shown)
        self._progress.update(self._now, **shown)


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration(seconds)} left"


def _reached(fields: dict[str, Any]) -> str:
    """Loss and accuracy of a training under way."""
    if "train/loss" not in fields:
        return ""
    return f"loss {fields['train/loss']:.3f}, accuracy {100 * fields['train/accuracy']:.1f} %"


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _sentence(kind: str, fields: dict[str, Any]) -> str:
    """A line for a person on what is worth a line."""
    if kind == "run":
        return f"run {fields['run_id']}: {fields['rounds']} rounds"
    if kind == "result":
        headlines = {"test/accuracy": "test accuracy", "test/mean_iou": "mean IoU on the test images"}
        told = [f", {100 * fields[name]:.2f} % {title}" for name, title in headlines.items() if name in fields]
        reached = "".join(told)
        return f"round {fields['round']}: {fields['labels']:,} labels{reached}"
    if kind == "notice":
        return f"note: {fields['text']}"
    if kind == "hint":
        return f"next: {fields['text']}"
    return ""
