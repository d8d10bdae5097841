"""`mcdal campaign serve`: the page, and beside it the trainer as a process of its own whenever a round is full."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from mcdal.campaign.definition import Opened, opened
from mcdal.campaign.door import Door
from mcdal.campaign.outlook import outlook
from mcdal.campaign.progress import PICKED, finished_rounds, is_training, state
from mcdal.campaign.sweep import sweep
from mcdal.campaign.wanted_trials import untried
from mcdal.campaign.web import Beside, make_app
from mcdal.errors import CampaignError

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_SWEEPS = 60.0
SECONDS_TO_STOP = 30.0
PATIENCE = (10.0, 600.0)
"""Seconds before a trainer that failed is begun again: at first, and at most; each time twice as many."""
START = "from mcdal.cli import main; main()"
ERROR = "error: "
"""How the command line begins what went wrong; more lines may follow."""
MOST_WORDS = 500
LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")


def serve(
    folder: Path, host: str, port: int, names: list[str], device: str, tell: Callable[[str], None], trains: bool = True
) -> None:
    """Serves until Ctrl-C. names: other names that the page may be asked for by. tell: is given the links.

    trains: it begins trainers; one on another machine is waited for otherwise. CampaignError where another server is at work on
    this campaign, and the two do not share a database that is made for that.
    """
    import uvicorn

    with opened(folder) as campaign, only_server(folder, campaign.database.shared):
        beside = Beside()
        hosts = [*LOOPBACK, *names] if host in LOOPBACK or names else ["*"]
        app = make_app(campaign, beside, hosts)
        server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning", server_header=False))
        with beside_people(campaign, device, beside, trains and not campaign.joined):
            signal.signal(signal.SIGTERM, _as_by_hand)  # uvicorn raises it again when it has ended
            tell(f"http://{_shown(host)}:{port}/enter/{Door(campaign.ledger, campaign.secret).invite()}")
            server.run()


def _as_by_hand(number: int, _: object) -> None:
    raise SystemExit(128 + number)


@contextmanager
def only_server(folder: Path, shared: bool = False) -> Iterator[None]:
    """CampaignError where another one serves this campaign. shared: that is welcome."""
    lock = FileLock(folder / "serve.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        if not shared:
            raise CampaignError(f"another server is at work on {folder}: people can use that one") from None
    try:
        yield
    finally:
        lock.release()


@dataclass
class Trainer:
    """Looks every second whether there is something to do, and does it in a process of its own.

    trains: False of a server that only shows what another one does.
    """

    campaign: Opened
    device: str
    beside: Beside
    trains: bool = True
    _process: "subprocess.Popen[bytes] | None" = None
    _failures: int = 0
    _not_before: float = 0.0
    _next_sweep: float = 0.0
    _before: tuple[int, int] = (0, 0)
    _log_before: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self._stopping.wait(SECONDS_BETWEEN_LOOKS):
            try:
                self.look()
            except Exception as error:  # a disk that is full for a while must not end all training
                self.beside.phase = "stopped"
                self.beside.message = f"Training waits: {' '.join(str(error).split())[:500]}"

    def look(self) -> None:
        """One look: reaps what has ended, begins what is wanted."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                self._missing()  # people are not to wait for somebody who has left while it is at work
                return
            self._process = None
            self._ended(code)
        there = state(self.campaign)
        untold = there != "full" and untried(self.campaign, finished_rounds(self.campaign))
        if there == "finished" and not untold:
            self._missing()
            self.beside.phase, self.beside.message = "finished", "All labels that were wanted are given. Thank you!"
        elif there == "asks" and not untold and not self.campaign.ledger.unexplained():
            self.beside.phase, self.beside.message = "labeling", self._missing()
        elif not self.trains or is_training(self.campaign):
            self.beside.phase, self.beside.message = (
                ("training", "A new round is being prepared.") if there == "full" else ("labeling", "")
            )
        elif time.monotonic() >= self._not_before:
            self._begin("" if there == "full" else "What random labeling would have given is tried beside.")

    def _missing(self) -> str:
        """Now and then: images that are asked about and have gone, or are back; what people who left were waited for.

        Another server has images of its own: what it lacks may be there.
        """
        if not self.trains or time.monotonic() < self._next_sweep:
            return self.beside.message
        self._next_sweep = time.monotonic() + SECONDS_BETWEEN_SWEEPS
        self.campaign.ledger.settle()
        away = sweep(self.campaign)
        self.beside.suggestions = tuple(reason.text for reason in outlook(self.campaign).suggestions)
        return away

    def stop(self) -> None:
        """The trainer keeps its state, as at Ctrl-C, and is ended where it does not in time."""
        self._stopping.set()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT if os.name != "nt" else signal.SIGTERM)
            try:
                self._process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                self._process.kill()

    @property
    def _log(self) -> Path:
        return self.campaign.folder / "trainer.log"

    def _reached(self) -> tuple[int, int]:
        """What a trainer moves: rounds that are finished, and images that were asked about."""
        return finished_rounds(self.campaign), self.campaign.ledger.progress().asked

    def _begin(self, message: str = "") -> None:
        self._before = self._reached()
        labels = self.campaign.ledger.progress(arms=PICKED).labels
        self.beside.phase = "training"
        self.beside.message = message or (
            f"Training on {labels} labels and picking new images." if labels else "Looking at all images."
        )
        command = [sys.executable, "-P", "-c", START, "campaign", "train", str(self.campaign.folder)]
        with self._log.open("ab") as log:
            self._log_before = log.tell()
            self._process = subprocess.Popen(
                [*command, "--device", self.device], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # Ctrl-C is for the server, which tells it
            )  # fmt: skip

    def _ended(self, code: int) -> None:
        if code == 0 and (state(self.campaign) != "full" or self._reached() != self._before):
            self._failures, self._not_before = 0, 0.0
            return
        self._failures += 1
        wait = min(PATIENCE[0] * 2 ** min(self._failures - 1, 10), PATIENCE[1])
        self._not_before = time.monotonic() + wait
        self.beside.phase = "stopped"
        said = last_words(self._log, self._log_before)
        self.beside.message = f"Training stopped: {said} It is tried again in {wait:.0f} s; labels are safe."


@contextmanager
def beside_people(campaign: Opened, device: str, beside: Beside, trains: bool = True) -> Iterator[Trainer]:
    """The trainer, watched over in a thread."""
    trainer = Trainer(campaign, device, beside, trains)
    thread = threading.Thread(target=trainer.watch, name="trainer", daemon=True)
    thread.start()
    try:
        yield trainer
    finally:
        trainer.stop()
        thread.join(SECONDS_TO_STOP)


def last_words(log: Path, since: int = 0) -> str:
    """The last error in one line, or the last line that says something. since: bytes of the log that others wrote."""
    with log.open("rb") as file:
        file.seek(since)
        lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        return "it said nothing."
    begins = max((i for i, line in enumerate(lines) if line.startswith(ERROR)), default=len(lines) - 1)
    said = "; ".join(lines[begins:]).removeprefix(ERROR)
    return (said if len(said) <= MOST_WORDS else f"{said[:MOST_WORDS]}...").rstrip(".") + "."


def _shown(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)
