"""Plays the cells of a comparison, each as a process of its own: what one does, or dies of, does not touch the others."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from mcdal.compare.cell import Cell
from mcdal.twins import may_take_over

Tell = Callable[[str, Cell, dict[str, Any]], None]
"""Is told what happened, to which cell, and what an event said: begin, event, end, look (nothing happened for a while)."""

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_STOP = 30.0
NEEDS = 1.2
"""A further process is begun where this many times the memory of the largest one is at hand."""


def play(cells: Sequence[Cell], out: Path, device: str, workers: int, tell: Tell) -> None:
    """Runs those that are not done, `workers` at once as far as memory allows. A cell that fails says why; the others go on.

    Ctrl-C stops all of them; every one continues when it is played again.
    """
    _Players(cells, out, device, workers, tell).play()


def default_workers(device: str) -> int:
    """One process a processor; on an accelerator one."""
    if device == "cpu":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1


class _Players:
    def __init__(self, cells: Sequence[Cell], out: Path, device: str, workers: int, tell: Tell):
        self._waiting = [cell for cell in cells if cell.state == "waiting"]
        self._out, self._device, self._workers, self._tell = out, device, workers, tell
        self._running: dict[str, tuple[Cell, subprocess.Popen[str]]] = {}
        self._heard: queue.Queue[tuple[str, dict[str, Any] | None]] = queue.Queue()
        self._largest = 0  # bytes that a process has held

    def play(self) -> None:
        try:
            while self._waiting or self._running:
                while len(self._running) < self._workers and (cell := self._next()) is not None:
                    self._begin(cell)
                self._listen()
        finally:
            self._stop()

    def _next(self) -> Cell | None:
        """The next cell that may begin; none while it would compute what another is about to lend, or memory is short."""
        if self._running and not self._room():
            return None
        lent = {c.plan.seed for c, _ in self._running.values() if _lends(c) and c.rounds_done == 0}
        for cell in self._waiting:
            if not (cell.plan.seed in lent and may_take_over(cell.plan.config.strategy)):
                self._waiting.remove(cell)
                return cell
        return None

    def _begin(self, cell: Cell) -> None:
        words = [*cell.command.words(), "--out", str(self._out), "--device", self._device, "--json"]
        log = _log(self._out, cell)
        log.parent.mkdir(parents=True, exist_ok=True)
        threads = str(max(1, default_workers("cpu") // self._workers))
        with log.open("w", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "mcdal", "run", *words],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8",
                env={"OMP_NUM_THREADS": threads, **os.environ},
            )  # fmt: skip
        assert process.stdout is not None
        self._running[cell.plan.run_id] = cell, process
        threading.Thread(target=self._read, args=(cell.plan.run_id, process.stdout), daemon=True).start()
        cell.begin()
        self._tell("begin", cell, {})

    def _read(self, run_id: str, lines: TextIO) -> None:
        """In a thread of its own: everything that a process says, and None when it has closed its mouth."""
        with lines:
            for line in lines:
                try:
                    said = json.loads(line)
                except ValueError:  # somebody's library prints
                    continue
                if isinstance(said, dict) and "event" in said:
                    self._heard.put((run_id, said))
        self._heard.put((run_id, None))

    def _listen(self) -> None:
        try:
            run_id, said = self._heard.get(timeout=SECONDS_BETWEEN_LOOKS)
        except queue.Empty:
            for cell, process in self._running.values():
                self._largest = max(self._largest, _memory(process.pid))
                self._tell("look", cell, {})
            return
        cell, process = self._running[run_id]
        if said is None:
            code = process.wait()
            del self._running[run_id]
            cell.end(_why(code, _log(self._out, cell)) if code else "")
            self._tell("end", cell, {})
        else:
            cell.hear(said.pop("event"), said)
            self._tell("event", cell, said)

    def _room(self) -> bool:
        """Whether a further process would find memory; yes where that cannot be known. The first shows what one takes."""
        free = _free()
        if free is None:
            return True
        if not self._largest and any(cell.rounds_done == 0 for cell, _ in self._running.values()):
            self._largest = max(_memory(process.pid) for _, process in self._running.values())
        return free > NEEDS * self._largest

    def _stop(self) -> None:
        """Whatever still runs is asked to stop as by Ctrl-C, which keeps its state, and ended where it does not."""
        for _, process in self._running.values():
            process.send_signal(signal.SIGINT)
        for cell, process in self._running.values():
            try:
                process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
            cell.state = "waiting"


def _lends(cell: Cell) -> bool:
    return not cell.plan.config.strategy.changes_task_model


def _log(out: Path, cell: Cell) -> Path:
    """What its process writes to standard error."""
    return out / "runs" / cell.plan.run_id / "compare.log"


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
    """Bytes that a process has held at most; 0 where the system does not say."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
