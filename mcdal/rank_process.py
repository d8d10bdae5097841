"""What a process does that another one has started to train with it: its part of every call, until that one has gone."""

import multiprocessing
import os
import pickle
import shutil
import signal
import threading
import traceback
from contextlib import suppress
from multiprocessing import connection
from pathlib import Path
from typing import Any, NoReturn

import torch

from mcdal.own_code import import_own_files
from mcdal.process_group import group

JOIN = b"join"
"""What rank 0 says when all are about to join the group."""
SECONDS_BETWEEN_LOOKS = 0.5


def work(pipe: "connection.Connection[Any, Any]", rank: int, count: int, threads: int, start: str) -> None:
    """Does what rank 0 asks for, until that closes the pipe or is gone. start: how workers that read images are started."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C is for rank 0, which ends this one and all that it started
    multiprocessing.set_start_method(start, force=True)  # a spawned process would spawn its own
    folders: list[Path] = []
    threading.Thread(target=_end_with_parent, args=(folders,), daemon=True).start()
    torch.set_num_threads(threads)
    held: dict[str, Any] = {}
    try:
        pipe.send_bytes(pickle.dumps(None))
        while True:
            try:
                message = pipe.recv_bytes()
            except EOFError:
                return
            if not message:
                return
            theirs, new, folder, device, files = pickle.loads(message)
            folders[:] = [folder]
            import_own_files(files)  # what comes next may be made of them
            given = pickle.loads(pipe.recv_bytes())
            held |= {name: given.pop(name) for name in new}
            if device.type == "cuda":
                device = torch.device("cuda", device.index + rank)
                torch.cuda.set_device(device)
            with group(folder, rank, count, device, here=lambda: _report_here(pipe)):
                theirs(**held, **given)
            pipe.send_bytes(pickle.dumps(None))
    except BaseException as error:
        with suppress(OSError):
            pipe.send_bytes(told(error))
        _end()


def _report_here(pipe: "connection.Connection[Any, Any]") -> None:
    """Says that this process is about to join, and waits until all are."""
    pipe.send_bytes(pickle.dumps(None))
    if pipe.recv_bytes() != JOIN:
        _end()  # rank 0 has given up


def told(error: BaseException) -> bytes:
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
