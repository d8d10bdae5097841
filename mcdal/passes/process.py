"""The other end of `mcdal.passes.processes`: takes shards from standard input, a line each, and tells what became of them."""

import _thread
import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mcdal.errors import McdalError
from mcdal.passes.folder import folder_of
from mcdal.passes.shard_files import write
from mcdal.passes.work import Worker, unpacked
from mcdal.pool.sharded import Shard

SECONDS_BETWEEN = 0.2
SECONDS_TO_STOP = 3.0


def main() -> None:
    """Ends when its input does, whatever it is doing: who started it has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches who started it, who will say so
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # not at once: half a file is removed on the way
    job, slot = sys.argv[1:]
    speak, orders = _Mouth(), _orders(Path(job).parent)
    try:
        worker = Worker(unpacked(Path(job).read_bytes(), int(slot)))
    except McdalError as error:  # put into words for a person
        speak.say("failed", kind=type(error).__name__, text=str(error))
        return
    speak.say("ready")
    while True:
        order = orders.get()
        _serve(worker, order, speak)


def _serve(worker: Worker, order: dict[str, Any], speak: "_Mouth") -> None:
    try:
        shard = Shard(**order["shard"])
        write(folder_of(order["folder"]), worker.measure(shard, speak.progress))
    except Exception as error:
        speak.say("failed", kind=type(error).__name__, text=str(error))
    else:
        speak.say("done")


class _Mouth:
    """Standard output, which nobody else writes to from here on."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._spoken = time.monotonic()

    def say(self, what: str, **more: object) -> None:
        self._out.write(json.dumps({"said": what, **more}) + "\n")
        self._out.flush()

    def progress(self, _kind: str, **fields: int) -> None:
        """Listens to the measuring."""
        if time.monotonic() - self._spoken >= SECONDS_BETWEEN:
            self._spoken = time.monotonic()
            self.say("progress", rows=fields["done"])


def _orders(own: Path) -> "queue.Queue[dict[str, Any]]":
    """Read in a thread of its own, so that the end of the input is seen while a shard is measured.

    own: the folder of the pass on this machine, with the weights; it goes with who would have removed it.
    """
    orders: queue.Queue[dict[str, Any]] = queue.Queue()

    def read(lines: Iterable[str]) -> None:
        for line in lines:
            orders.put(json.loads(line))
        shutil.rmtree(own, ignore_errors=True)
        _thread.interrupt_main(signal.SIGTERM)
        time.sleep(SECONDS_TO_STOP)
        os._exit(1)  # it is deep in a computation that takes no notice

    threading.Thread(target=read, args=(sys.stdin,), daemon=True).start()
    return orders
