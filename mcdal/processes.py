"""Other processes of this machine that work together with this one, as ranks of one process group.

This process is rank 0. The others are started when they are first needed and live until the `with` block ends; the group exists
during a `call`. Whoever dies ends the call within seconds: rank 0 watches the others, and they watch rank 0.
"""

import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch

from mcdal.errors import McdalError, TrainingError
from mcdal.pickling import packed
from mcdal.process_group import abort, group, lost

Made = TypeVar("Made")

SECONDS_TO_SPEAK = 3.0
"""So long rank 0 waits for the reason of a failure from whoever has failed."""
SECONDS_TO_END = 5.0
SECONDS_BETWEEN_LOOKS = 0.5


class Processes:
    """`count` processes, this one included; with 1 it does nothing."""

    def __init__(self, count: int):
        self.count = count
        self._others: list[_Other] = []
        self._held: object = None  # what the others have of the last call

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def call(
        self,
        mine: Callable[[], Made],
        theirs: Callable[..., object],
        held: object,
        given: tuple[object, ...],
        device: torch.device,
    ) -> Made:
        """What `mine()` gives here, while the others do `theirs(held, *given)`, all in a process group of this device's kind.

        held: what is large and stays the same from call to call; it is sent once. device: this process's; that of rank r has
        the number that is r larger. An McdalError of any process is raised here; afterwards all others are ended.
        """
        folder = Path(tempfile.mkdtemp(prefix="mcdal-"))
        threads = torch.get_num_threads()
        try:
            new = held is not self._held
            message = packed((theirs, new, held if new else None, given, folder, device), "training.processes")
            self._begin(threads)
            self._send(message)
            self._held = held
            torch.set_num_threads(max(1, threads // self.count))
            with self._watched(), group(folder, 0, self.count, device):
                made = mine()
            for other in self._others:
                other.hear()
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
        self._others, self._held = [], None

    def _begin(self, threads: int) -> None:
        if not self._others:
            each = max(1, threads // self.count)
            self._others = [_Other(rank, self.count, each) for rank in range(1, self.count)]
            for other in self._others:
                other.hear()

    def _send(self, message: bytes) -> None:
        for other in self._others:
            other.say(message)
        for other in self._others:
            other.hear()  # that it could be read

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
        self.process = context.Process(target=_work, args=(its, rank, count, threads, start), name=f"mcdal rank {rank}")
        self.process.start()
        its.close()

    def say(self, message: bytes) -> None:
        with suppress(BrokenPipeError):  # it is then told by `hear`
            self._pipe.send_bytes(message)

    def hear(self) -> None:
        """Waits for its word; raises what went wrong there."""
        self.listen(None)
        if self.failure is not None:
            raise self.failure

    def listen(self, seconds: float | None) -> None:
        """Takes its word, if it says one within this time, or its silent end."""
        if self.failure is not None or not connection.wait([self._pipe, self.process.sentinel], seconds):
            return
        try:
            self.failure = pickle.loads(self._pipe.recv_bytes()) if self._pipe.poll() else self._died()
        except EOFError:
            self.failure = self._died()

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


def _work(pipe: "connection.Connection[Any, Any]", rank: int, count: int, threads: int, start: str) -> None:
    """Does what rank 0 asks for, until that closes the pipe or is gone. start: how workers that read images are started."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is for rank 0, which ends this one and all that it started
    multiprocessing.set_start_method(start, force=True)  # a spawned process would spawn its own
    folders: list[Path] = []
    threading.Thread(target=_end_with_parent, args=(folders,), daemon=True).start()
    torch.set_num_threads(threads)
    held: Any = None
    try:
        pipe.send_bytes(pickle.dumps(None))
        while True:
            try:
                message = pipe.recv_bytes()
            except EOFError:
                return
            if not message:
                return
            theirs, new, sent, given, folder, device = pickle.loads(message)
            held = sent if new else held
            folders[:] = [folder]
            pipe.send_bytes(pickle.dumps(None))
            if device.type == "cuda":
                device = torch.device("cuda", device.index + rank)
                torch.cuda.set_device(device)
            with group(folder, rank, count, device):
                theirs(held, *given)
            pipe.send_bytes(pickle.dumps(None))
    except BaseException as error:
        with suppress(OSError):
            pipe.send_bytes(_told(error))
        _end()


def _told(error: BaseException) -> bytes:
    """The error as another process can raise it, with its traceback."""
    text = "".join(traceback.format_exception(error))
    try:
        error.add_note(f"in another process of the training:\n{text}")
        message = pickle.dumps(error)
        pickle.loads(message)
    except Exception:  # an exception of somebody else's, with a constructor of its own
        message = pickle.dumps(RuntimeError(text))
    return message


def _end_with_parent(folders: list[Path]) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    # A process that was forked by the parent may hold the sentinel open longer than the parent lives.
    while not connection.wait([parent.sentinel], SECONDS_BETWEEN_LOOKS) and os.getppid() == parent.pid:
        pass
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    _end()


def _end() -> NoReturn:
    """At once, with all that this process has started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
