"""Several processes of this machine, one model each, which take shards as they come free."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mcdal.errors
from mcdal.errors import ConfigError, McdalError, StoreError
from mcdal.passes.engine import TRIES, Engine, Tries
from mcdal.passes.folder import Folder
from mcdal.passes.progress import Progress
from mcdal.passes.shard_files import refuse_unseen
from mcdal.passes.watch import Watch
from mcdal.passes.work import Job
from mcdal.pool.sharded import Shard

SECONDS_TO_STOP = 5.0
SECONDS_BETWEEN_LOOKS = 1.0
PACKAGE = Path(__file__).resolve().parents[2]
START = f"import sys; sys.path.append({str(PACKAGE)!r}); from mcdal.passes.process import main; main()"
LAST_WORDS = 2_000


@dataclass(frozen=True)
class Processes(Engine):
    """A process that dies is replaced, and its shard measured by another. They end with this process, however it ends.

    workers: how many. threads: of each; by default the processors of this machine are shared out. Of several accelerators each
    process takes the next one, from that of the pass on. longest: seconds without any progress after which a process is ended
    and its shard given to another; None: it is told of, no more.
    """

    workers: int
    threads: int | None = None
    longest: float | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers = {self.workers}: give at least 1")
        if self.longest is not None and not self.longest > 0:
            raise ConfigError(f"longest = {self.longest}: give seconds above 0, or None")

    def measure(self, job: Job, folder: Folder, shards: Sequence[Shard], progress: Progress) -> None:
        if folder.only_here:
            raise ConfigError(f"{folder} is seen by this process alone: give a folder, or measure without workers")
        if not shards:
            return
        with tempfile.TemporaryDirectory(prefix="mcdal-pass-", ignore_cleanup_errors=True) as own:
            path = Path(own)
            (path / "job").write_bytes(job.packed())
            at_once = min(self.workers, len(shards))
            share = str(max(1, (os.cpu_count() or 1) // at_once))
            threads = str(self.threads) if self.threads else os.environ.get("OMP_NUM_THREADS", share)
            _Crew(path, folder, deque(shards), at_once, threads, progress, Watch(self.longest)).work()


@dataclass
class _Child:
    """A process, and the shard in its hand."""

    number: int
    slot: int
    """Of those at work at once; decides on which accelerator."""
    process: "subprocess.Popen[str]"
    log: Path
    shard: Shard | None = None
    ready: bool = False
    """Whether it has its model."""
    hung: str = ""
    """Why it was ended."""

    @property
    def name(self) -> str:
        return f"process {self.number}"

    def say(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except OSError:  # it has died: its silence will tell
            return

    def close(self) -> None:
        """Both pipes, when it has ended."""
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):  # what it was to read and did not
                stream.close()


@dataclass
class _Crew:
    own: Path
    folder: Folder
    waiting: deque[Shard]
    at_once: int
    threads: str
    progress: Progress
    watch: Watch
    children: dict[int, _Child] = field(default_factory=dict)
    tries: Tries = field(default_factory=Tries)
    born_dead: int = 0

    def work(self) -> None:
        self._heard: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._number = 0
        self._seen = False
        try:
            while self.waiting or any(child.shard for child in self.children.values()):
                while self.waiting and len(self.children) < self.at_once:
                    self._begin()
                with contextlib.suppress(queue.Empty):
                    self._hear(*self._heard.get(timeout=SECONDS_BETWEEN_LOOKS))
                self._look_for_the_hung()
        finally:
            self._stop()

    def _begin(self) -> None:
        number, self._number = self._number, self._number + 1
        slot = min(set(range(self.at_once)) - {child.slot for child in self.children.values()})
        log = self.own / f"{number}.log"
        with log.open("w", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", START, str(self.own / "job"), str(slot)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8",
                errors="replace", env={**os.environ, "OMP_NUM_THREADS": self.threads},
            )  # fmt: skip
        self.children[number] = _Child(number, slot, process, log)
        self.watch.heard(self.children[number].name)
        assert process.stdout is not None
        threading.Thread(target=self._read, args=(number, process.stdout), daemon=True).start()

    def _read(self, number: int, lines: Iterable[str]) -> None:
        """In a thread of its own: all that a process says, and None when it has closed its mouth."""
        try:
            for line in lines:
                with contextlib.suppress(ValueError):  # somebody's library prints
                    self._heard.put((number, json.loads(line)))
        finally:
            self._heard.put((number, None))

    def _hear(self, number: int, said: dict[str, Any] | None) -> None:
        child = self.children[number]
        self.watch.heard(child.name)
        if said is None:
            self._died(child)
        elif said["said"] == "progress":
            self.progress.advanced(child.name, said["rows"])
        elif said["said"] == "failed":
            self._failed(child, said["kind"], said["text"])
            self._give(child)
        elif said["said"] == "ready":
            child.ready, self.born_dead = True, 0
            self._give(child)
        elif said["said"] == "done":
            assert child.shard is not None
            if not self._seen:
                refuse_unseen(self.folder, child.shard.name, child.name)
                self._seen = True
            self.progress.finished(child.name, child.shard)
            child.shard = None
            self._give(child)

    def _look_for_the_hung(self) -> None:
        for child in self.children.values():
            if child.hung or (child.ready and child.shard is None):
                continue
            what = f"the shard {child.shard.name}" if child.shard else "its model"
            said, over = self.watch.of(child.name, what, "has made no progress with")
            if said:
                self.progress.notice(said)
            if over and child.shard:  # to begin takes as long as it takes
                child.hung = over
                child.process.kill()

    def _give(self, child: _Child) -> None:
        """The next shard. Where there is none it waits: another's may come back."""
        if not self.waiting:
            return
        child.shard = self.waiting.popleft()
        self.progress.began(child.name)
        child.say({"shard": vars(child.shard), "folder": str(self.folder)})

    def _failed(self, child: _Child, kind: str, text: str) -> None:
        """Put into words for a person, it would fail everywhere; anything else is tried again."""
        of_ours = getattr(mcdal.errors, kind, None)
        if isinstance(of_ours, type) and issubclass(of_ours, McdalError):
            raise of_ours(text)
        self._give_back(child, f"{kind}: {text}")

    def _give_back(self, child: _Child, why: str) -> None:
        shard, child.shard = child.shard, None
        self.progress.lost(child.name)
        if shard is not None:
            self.progress.notice(self.tries.again(shard, why))
            self.waiting.append(shard)

    def _died(self, child: _Child) -> None:
        code = child.process.wait()
        child.close()
        del self.children[child.number]
        why = child.hung or f"its process ended {_how(code)}; it said: {_last_words(child.log)}"
        if not child.ready:
            self.born_dead += 1
            if self.born_dead >= TRIES:
                raise StoreError(
                    f"processes end before they measure anything, the last {_how(code)}: {_last_words(child.log)}"
                )
        self._give_back(child, why)
        for other in self.children.values():  # one that had nothing left to do may take it
            if other.ready and other.shard is None:
                self._give(other)

    def _stop(self) -> None:
        """No more to do, or Ctrl-C: a process that is at work drops its shard."""
        for child in self.children.values():
            child.process.terminate()
        for child in self.children.values():
            try:
                child.process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            child.close()


def _how(code: int) -> str:
    if code < 0:
        return f"by signal {-code}" + (" (out of memory? fewer workers take less)" if code == -9 else "")
    return f"with code {code}"


def _last_words(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    return text[-LAST_WORDS:] or "nothing"
