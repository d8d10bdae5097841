"""`mcdal label-studio serve`: the ML backend, and beside it one who pulls, pushes, and has rounds trained."""

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from mcdal.campaign.definition import opened
from mcdal.campaign.serve import LOOPBACK, beside_people
from mcdal.campaign.web import Beside
from mcdal.errors import CampaignError
from mcdal.label_studio.backend import Login, Wish, make_backend
from mcdal.label_studio.client import Client
from mcdal.label_studio.connection import Connection, read_connection
from mcdal.label_studio.register import register
from mcdal.label_studio.sync import Puller, Pusher, once

LOOK_SECONDS = 1.0
MOST_TASKS = 50
"""More are not looked at one by one: a list gives a hundred at once."""
PATIENCE = (5.0, 300.0)
"""Seconds until a server that did not answer is asked again: at first, and at most."""


@dataclass
class Between:
    """Does what webhooks wish and what time brings, one after the other. every: seconds between looks at what has changed."""

    puller: Puller
    pusher: Pusher
    beside: Beside
    tell: Callable[[str], None]
    every: float
    wishes: "queue.SimpleQueue[Wish]" = field(default_factory=queue.SimpleQueue)
    _next_pull: float = 0.0
    _wait: float = PATIENCE[0]
    _not_before: float = 0.0
    _stopping: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        say = once(self.tell)
        while not self._stopping.is_set():
            wishes = self._wishes()
            if time.monotonic() < self._not_before:
                self._stopping.wait(LOOK_SECONDS)
                continue
            try:
                self.turn(wishes, say)
                self._wait = PATIENCE[0]
            except Exception as error:  # a server that is away for a while must not end all pulling
                self._next_pull, self._not_before = 0.0, time.monotonic() + self._wait
                say(f"waits {self._wait:.0f} s: {error}")
                self._wait = min(2 * self._wait, PATIENCE[1])

    def turn(self, wishes: list[Wish], say: Callable[[str], None]) -> None:
        """One look: pulls what is wished for, or all that changed where it is time; pushes where something new is asked."""
        numbers = [number for wish in wishes for number in wish.tasks]
        at_all = len(numbers) > MOST_TASKS or any(not wish.tasks for wish in wishes)
        if at_all or time.monotonic() >= self._next_pull:
            report = self.puller.pull()
            self._next_pull = time.monotonic() + self.every
        elif numbers:
            report = self.puller.pull_tasks(numbers)
        else:
            report = None
        if report is not None and (report.changes or report.told):
            say("\n".join(report.lines()))
        if self.beside.phase in ("training", "stopped"):
            say(self.beside.message)
        if (done := self.pusher.push()) is not None:
            self.puller.saw(done.pulled)
            say("\n".join(done.lines()))

    def stop(self) -> None:
        self._stopping.set()

    def _wishes(self) -> list[Wish]:
        """All there are; waits a moment for the first."""
        found = []
        with suppress(queue.Empty):
            found.append(self.wishes.get(timeout=LOOK_SECONDS))
            while True:
                found.append(self.wishes.get_nowait())
        return found


def serve(
    folder: Path, host: str, port: int, device: str, every: float, login: Login | None, url: str | None,
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    """Serves until Ctrl-C. url: the address by which Label Studio reaches this backend, which is then registered there.

    CampaignError where others than this machine could reach it and no login is wanted, and where another one is at work.
    """
    import uvicorn

    if host not in LOOPBACK and login is None:
        raise CampaignError(
            f"--host {host} lets others reach the backend: give --user and a password in MCDAL_LABEL_STUDIO_PASSWORD (Label "
            "Studio sends them by Basic Auth)"
        )
    with opened(folder) as campaign, only_backend(folder):
        connection = read_connection(folder)
        with connection.client() as client:
            beside = Beside()
            between = Between(
                Puller(campaign, client, connection), Pusher(campaign, client, connection), beside, tell, every
            )
            app = make_backend(campaign, connection, between.wishes.put, login)
            server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning", server_header=False))
            signal.signal(signal.SIGTERM, _as_by_hand)
            with beside_people(campaign, device, beside), _beside(between):
                tell(f"backend: http://{host}:{port} for {connection.page}")
                if url is not None:
                    _when_it_answers(server, lambda: _register(client, connection, url, login, tell))
                server.run()


@contextmanager
def only_backend(folder: Path) -> Iterator[None]:
    """CampaignError where another one is at work for this campaign."""
    lock = FileLock(folder / "label_studio.serve.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise CampaignError(f"another backend is at work for {folder}: Label Studio can use that one") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _beside(between: Between) -> Iterator[None]:
    thread = threading.Thread(target=between.watch, name="label studio", daemon=True)
    thread.start()
    try:
        yield
    finally:
        between.stop()
        thread.join(10.0)


def _when_it_answers(server: object, act: Callable[[], None]) -> None:
    """Label Studio asks the backend for its health while it is registered."""

    def wait() -> None:
        while not getattr(server, "started", False):
            time.sleep(0.05)
        act()

    threading.Thread(target=wait, name="register", daemon=True).start()


def _register(
    client: Client, connection: Connection, url: str, login: Login | None, tell: Callable[[str], None]
) -> None:
    try:
        tell(register(client, connection, url, login))
    except CampaignError as error:
        tell(str(error))


def _as_by_hand(number: int, _: object) -> None:
    raise SystemExit(128 + number)
