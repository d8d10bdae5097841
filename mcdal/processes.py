"""Other processes of this machine that work together with this one, as ranks of one process group.

This process is rank 0. The others are started when they are first needed and live until the `with` block ends; the group exists
during a `call`. Whoever dies ends the call within seconds: rank 0 watches the others, and they watch rank 0.
"""

import math
import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import connection
from pathlib import Path
from typing import TypeVar

import torch

from mcdal.errors import McdalError, TrainingError
from mcdal.own_code import own_files
from mcdal.pickling import packed
from mcdal.process_group import abort, group, lost
from mcdal.rank_process import JOIN, SECONDS_BETWEEN_LOOKS, work

Made = TypeVar("Made")

SECONDS_TO_SPEAK = 3.0
"""So long rank 0 waits for the reason of a failure from whoever has failed."""
SECONDS_TO_END = 5.0


class Processes:
    """`count` processes, this one included; with 1 it does nothing."""

    def __init__(self, count: int):
        self.count = count
        self._others: list[_Other] = []
        self._held: dict[str, object] = {}  # what the others have of the last call

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def call(
        self,
        mine: Callable[[], Made],
        theirs: Callable[..., object],
        held: Mapping[str, object],
        given: Mapping[str, object],
        device: torch.device,
    ) -> Made:
        """What `mine()` gives here, while the others do `theirs(**held, **given)`, all in a process group of this device's kind.

        held: what is large and stays the same from call to call; it is sent once. Errors tell its names, and those of given.
        device: this process's; that of rank r has the number that is r larger. An McdalError of any process is raised here;
        afterwards all others are ended.
        """
        folder = Path(tempfile.mkdtemp(prefix="mcdal-"))
        threads = torch.get_num_threads()
        try:
            new = {name: part for name, part in held.items() if self._held.get(name) is not part}
            message = packed({**new, **given}, "training.processes")
            self._begin(threads)
            order = pickle.dumps((theirs, tuple(new), folder, device, own_files()))
            torch.set_num_threads(max(1, threads // self.count))
            with self._watched():
                self._send(order, message)
                self._held = dict(held)
                with group(folder, 0, self.count, device, here=self._gather):
                    made = mine()
            self._hear_all()
        except Exception as error:
            cause = self._cause(error)
            self.stop(at_once=True)
            raise cause from (None if cause is error else error)
        except BaseException:
            self.stop(at_once=True)
            raise
        finally:
            torch.set_num_threads(threads)
            shutil.rmtree(folder, ignore_errors=True)
        return made

    def stop(self, at_once: bool = False) -> None:
        """Ends the others; they are started anew when they are needed again."""
        for other in self._others:
            other.end(at_once)
        for other in self._others:
            other.gone()
        self._others, self._held = [], {}

    def _begin(self, threads: int) -> None:
        if not self._others:
            each = max(1, threads // self.count)
            self._others = [_Other(rank, self.count, each) for rank in range(1, self.count)]
            self._hear_all()

    def _send(self, *messages: bytes) -> None:
        for other in self._others:
            for message in messages:
                other.say(message)

    def _hear_all(self) -> None:
        for other in self._others:
            other.hear()

    def _gather(self) -> None:
        """Waits until all others are about to join the group, and lets them."""
        self._hear_all()
        self._send(JOIN)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Inside, what another process leaves behind is ended when it dies, and this one does not wait for it for ever."""
        over = threading.Event()
        watch = threading.Thread(target=self._watch, args=(over,), daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            # Not by their sentinels, which workers that they forked hold open as well.
            dead = [other for other in self._others if not other.process.is_alive()]
            for other in dead:
                other.sweep()  # those workers hold its connections open, too
            if dead and not over.wait(SECONDS_TO_SPEAK):
                abort()  # a kernel of NCCL waits for ever
            if dead:
                return

    def _cause(self, error: Exception) -> Exception:
        """The reason why a call has failed, which another process may know better."""
        if isinstance(error, McdalError):
            return error
        until = time.monotonic() + SECONDS_TO_SPEAK
        for other in self._others:
            other.listen(max(0.0, until - time.monotonic()) if lost(error) else 0.0)
        failures = [other.failure for other in self._others if other.failure is not None]
        told = [failure for failure in failures if isinstance(failure, McdalError)]
        own = [failure for failure in failures if not lost(failure)]
        return next(iter([*told, *(own if lost(error) else [])]), error)


class _Other:
    """One of the other processes, as rank 0 sees it. failure: why it has ended, if it has."""

    def __init__(self, rank: int, count: int, threads: int):
        self.rank = rank
        self.failure: Exception | None = None
        context = multiprocessing.get_context("spawn")  # a fork would take over CUDA and threads half
        self._pipe, its = context.Pipe()
        start = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
        self.process = context.Process(target=work, args=(its, rank, count, threads, start), name=f"mcdal rank {rank}")
        self.process.start()
        its.close()

    def say(self, message: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it is then told by `hear`
            self._pipe.send_bytes(message)

    def hear(self) -> None:
        """Waits for its word; raises what went wrong there."""
        self.listen(None)
        if self.failure is not None:
            raise self.failure

    def listen(self, seconds: float | None) -> None:
        """Takes its word, if it says one within this time, or its silent end."""
        until = math.inf if seconds is None else time.monotonic() + seconds
        heard = self.failure is not None
        while not heard:
            # Workers that it forked hold the pipe and the sentinel open longer than it lives.
            lived = self.process.is_alive()
            rest = max(0.0, until - time.monotonic())
            connection.wait([self._pipe, self.process.sentinel], min(rest, SECONDS_BETWEEN_LOOKS) if lived else 0.0)
            heard = self._take(lived)
            if rest == 0.0:
                return

    def _take(self, lived: bool) -> bool:
        """Whether there was a word, or will be none. lived: whether the process did before the pipe was looked at."""
        try:
            if self._pipe.poll():
                self.failure = pickle.loads(self._pipe.recv_bytes())
                return True
        except (EOFError, OSError):  # closed, in the middle of a word perhaps
            lived = False
        if not lived:
            self.failure = self._died()
        return not lived

    def _died(self) -> TrainingError:
        self.process.join(SECONDS_TO_END)
        code = self.process.exitcode
        how = f"was ended by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with {code}"
        return TrainingError(
            f"process {self.rank} of the training {how}: all earlier rounds are kept, and the same command continues. If it "
            "happens again, look whether memory is short"
        )

    def end(self, at_once: bool) -> None:
        if at_once:
            self.sweep()
        self.say(b"")
        self._pipe.close()

    def gone(self) -> None:
        self.process.join(SECONDS_TO_END)
        self.sweep()
        self.process.join()
        self.process.close()

    def sweep(self) -> None:
        """Ends it and all that it has started."""
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid or 0, signal.SIGKILL)
        if self.process.is_alive():
            self.process.kill()
