"""Cells as processes of this machine: what one does, or dies of, does not touch the others."""

import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from mcdal.compare.cell import Cell
from mcdal.compare.players import Players, Word, log_of

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_STOP = 30.0
SECONDS_AFTER_THE_END = 5.0
"""So long the last words of a process that has ended are waited for."""
NEEDS = 1.2
"""A further process is begun where this many times the memory of the largest one is at hand."""
PACKAGE = Path(__file__).resolve().parents[2]
START = f"import sys; sys.path.append({str(PACKAGE)!r}); from mcdal.cli import main; main()"
"""`mcdal`, whatever files of other modules' names lie in the working directory (with `-P`)."""


def default_workers(device: str) -> int:
    """One process a processor; on an accelerator one."""
    if device == "cpu":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1


class Processes(Players):
    """Each cell is `mcdal run` in a process of its own, `workers` at once as far as memory allows."""

    def __init__(self, out: Path, device: str, workers: int):
        self._out, self._device, self._workers = out, device, workers
        self._running: dict[str, _Child] = {}
        self._heard: queue.Queue[tuple[str, dict[str, Any] | None]] = queue.Queue()
        self._begun: list[str] = []  # nobody was told yet
        self._looked = -math.inf
        self._largest: int | None = None  # bytes that a process has held whose first round is over

    @property
    def at_once(self) -> int:
        return self._workers

    def have_room(self) -> bool:
        return len(self._running) < self._workers and (not self._running or self._memory_suffices())

    def begin(self, cell: Cell) -> None:
        log = log_of(self._out, cell.plan.run_id)
        log.parent.mkdir(parents=True, exist_ok=True)
        words = [*cell.command.words(), "--out", str(self._out), "--device", self._device, "--json"]
        with log.open("w", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", START, "run", *words],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                text=True, encoding="utf-8", errors="replace",
                env={"OMP_NUM_THREADS": str(max(1, default_workers("cpu") // self._workers)), **os.environ},
            )  # fmt: skip
        assert process.stdout is not None
        self._running[cell.plan.run_id] = _Child(cell, process)
        threading.Thread(target=self._read, args=(cell.plan.run_id, process.stdout), daemon=True).start()
        self._begun.append(cell.plan.run_id)

    def _read(self, run_id: str, lines: TextIO) -> None:
        """In a thread of its own: everything that a process says, and None when it has closed its mouth."""
        try:
            for line in lines:
                try:
                    said = json.loads(line)
                except ValueError:  # somebody's library prints
                    continue
                if isinstance(said, dict) and isinstance(said.get("event"), str):
                    self._heard.put((run_id, said))
        finally:
            self._heard.put((run_id, None))

    def listen(self) -> Iterator[Word]:
        yield from (Word("begin", run_id) for run_id in self._begun)
        self._begun.clear()
        yield from self._look()
        try:
            run_id, said = self._heard.get(timeout=SECONDS_BETWEEN_LOOKS)
        except queue.Empty:
            return
        child = self._running.get(run_id)
        if child is None:  # it was given up
            return
        yield self._end(child) if said is None else Word("event", run_id, said=said)

    def _end(self, child: "_Child") -> Word:
        code, run_id = child.process.wait(), child.cell.plan.run_id
        del self._running[run_id]
        return Word("end", run_id, _why(code, log_of(self._out, run_id)) if code else "")

    def _look(self) -> Iterator[Word]:
        """Now and then: what processes hold, and whether one has gone whose mouth somebody else holds open."""
        if time.monotonic() - self._looked < SECONDS_BETWEEN_LOOKS:
            return
        self._looked = time.monotonic()
        for child in list(self._running.values()):
            child.holds = max(child.holds, _memory(child.process.pid))
            if child.cell.rounds_done > 0:
                self._largest = max(self._largest or 0, child.holds)
            if child.process.poll() is not None:
                child.gone = child.gone or self._looked
                if self._looked - child.gone > SECONDS_AFTER_THE_END:
                    yield self._end(child)

    def _memory_suffices(self) -> bool:
        """Whether a further process would find memory, also when those that run have taken all they will.

        The first one shows what that is, in its first round; until then it is alone. Yes where the system does not say.
        """
        free = _free()
        if free is None:
            return True
        if self._largest is None:
            return False
        to_come = sum(max(0, self._largest - child.holds) for child in self._running.values())
        return free - to_come > NEEDS * self._largest

    def stop(self) -> None:
        for child in self._running.values():
            if os.name == "nt":  # there is no such signal to a single process
                child.process.terminate()
            else:
                child.process.send_signal(signal.SIGINT)
        for child in self._running.values():
            try:
                child.process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                child.process.kill()


@dataclass
class _Child:
    """A process at work on a cell. holds: bytes it has held at most. gone: since when it is known to have ended."""

    cell: Cell
    process: "subprocess.Popen[str]"
    holds: int = 0
    gone: float | None = None


def _why(code: int, log: Path) -> str:
    """How a process failed, in its own last words."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if told:
        return told[-1]
    if code < 0:
        name = signal.Signals(-code).name
        more = ": out of memory? fewer --workers take less" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{more}"
    return f"{lines[-1] if lines else f'its process ended with code {code}'} (all of it: {log})"


def _free() -> int | None:
    """Bytes of memory that a process could have; None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _memory(pid: int) -> int:
    """Bytes that a process holds and shares with no file; 0 where the system does not say."""
    held = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                held += int(line.split()[1]) * 1024
    except OSError:
        pass
    return held
