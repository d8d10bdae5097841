"""Reading ahead: while one batch is at work, the next are fetched and decoded in threads."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

Item = TypeVar("Item")
Piece = TypeVar("Piece")
Result = TypeVar("Result")


def read_ahead(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """The items in their order, drawn by a thread of its own, at most `depth` before they are asked for."""
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(entry: tuple[bool, Any]) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                waiting.put(entry, timeout=0.1)
                return

    def draw() -> None:
        try:
            for item in items:
                put((True, item))
                if stopped.is_set():
                    return
            put((False, None))
        except BaseException as error:
            put((False, error))

    thread = threading.Thread(target=draw, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            more, item = waiting.get()
            if more:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        stopped.set()
        thread.join()


def in_pieces(
    items: Iterable[Item],
    cut: Callable[[Item], list[Piece]],
    work: Callable[[Piece], Result],
    threads: int,
    ahead: int = 1,
) -> Iterator[list[Result]]:
    """For each item the results of its pieces, in order; `ahead` items are at work beside the one that is waited for."""
    waiting: deque[list[Future[Result]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for item in items:
                waiting.append([pool.submit(work, piece) for piece in cut(item)])
                if len(waiting) > ahead:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            for future in (future for futures in waiting for future in futures):
                future.cancel()
