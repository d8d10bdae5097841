"""Scripted people who work on a campaign over HTTP, and a server that may be killed under them."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from sqlalchemy import select

from mcdal.campaign.definition import Opened
from mcdal.campaign.progress import PICKED
from mcdal.campaign_tables import answers, questions

HEADERS = {"Host": "127.0.0.1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """`mcdal campaign serve` as a process."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None
    link: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mcdal", "campaign", "serve", str(self.folder), "--port", str(self.port)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        log = self.folder / "serve.log"
        with log.open("w") as said:
            self.process = subprocess.Popen(
                [*command, "--device", "cpu"], stdout=said, stderr=subprocess.STDOUT, env=environment
            )
        self.link = self._read_link(log)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                httpx.get(f"{self.url}/static/sign_in.css", headers=HEADERS, timeout=2)
                return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the server does not answer")

    def _read_link(self, log: Path) -> str:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if found := re.search(r"http\S+/enter/\S+", log.read_text()):
                return found[0]
            assert self.process is not None and self.process.poll() is None, log.read_text()
            time.sleep(0.05)
        raise AssertionError("the server gives no link")

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)


@dataclass
class Annotator:
    """One person: labels what comes, sends every answer until it is acknowledged. truth: what the images show.

    wrong, skipped: shares of the answers. acknowledged: what the server said that it has, by key.
    """

    server: Server
    link: str
    name: str
    truth: Mapping[str, int]
    classes: int
    wrong: float = 0.0
    skipped: float = 0.0
    seed: int = 0
    acknowledged: dict[str, tuple[str, str, int | None]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._draw = random.Random(self.seed)
        self._client = httpx.Client(base_url=self.server.url, headers=HEADERS, timeout=10)
        self._csrf = ""

    def enter(self) -> None:
        token = self.link.rpartition("/enter/")[2]
        response = self._patiently(lambda: self._client.post(f"/enter/{token}", data={"name": self.name}))
        assert response.status_code == 303, response.text

    def state(self) -> dict:
        state = self._patiently(lambda: self._client.get("/api/state")).json()
        self._csrf = state["csrf"]
        return state

    def work(self, until: Callable[[], bool], pause: float = 0.05) -> None:
        """Until the campaign is finished, or `until` says so."""
        try:
            self._work(until, pause)
        finally:
            self._client.close()

    def _work(self, until: Callable[[], bool], pause: float) -> None:
        while not until():
            if self.state()["phase"] == "finished":
                return
            found = self._post("/api/next", {"count": self._draw.randint(1, 6)})
            if not found["items"]:
                time.sleep(pause)
            outbox = [self._answer(item) for item in found["items"]]
            results = self._post("/api/answers", {"answers": outbox})["results"]
            for answer, result in zip(outbox, results, strict=True):
                assert answer["key"] == result["key"]
                if result["status"] == "refused":
                    self.refused.append(result["message"])
                else:
                    self.acknowledged[answer["key"]] = (answer["id"], answer["verdict"], answer["value"])

    def _answer(self, item: dict) -> dict:
        verdict, value = "label", self.truth[item["id"]]
        if self._draw.random() < self.skipped:
            verdict, value = "skip", None
        elif self._draw.random() < self.wrong:
            value = (value + self._draw.randrange(1, self.classes)) % self.classes
        return {
            "key": str(uuid.UUID(int=self._draw.getrandbits(128))),
            "id": item["id"],
            "verdict": verdict,
            "value": value,
        }

    def _post(self, path: str, content: dict) -> dict:
        response = self._patiently(lambda: self._client.post(path, json=content, headers={"X-CSRF": self._csrf}))
        assert response.status_code == 200, response.text
        return response.json()

    def _patiently(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        """As the page does it: again and again, until the server is there."""
        end = time.monotonic() + 120
        while True:
            try:
                response = ask()
                if response.status_code < 500:
                    return response
            except httpx.TransportError:
                pass
            assert time.monotonic() < end, "the server stays away"
            time.sleep(0.1)


def everybody_is_done(campaign: Opened, budget: int) -> None:
    """Each label that was to be given is there, but where no two of the people agreed: that is rare, and no loss."""
    q, a = questions.c, answers.c
    with campaign.database.read() as connection:
        asked = connection.execute(select(questions).where(q.arm.in_(PICKED))).all()
        said = connection.execute(select(a.sample_id, a.value).where(a.verdict == "label").distinct()).all()
        each = Counter(connection.execute(select(a.sample_id).where(a.verdict == "label")).scalars())
    assert len(asked) == budget and all(question.closed_at is not None for question in asked)
    opinions = Counter(id for id, _ in said)
    for question in asked:
        if question.verdict != "label":
            assert (question.verdict, question.value) == ("cannot_tell", None), question
            assert opinions[question.sample_id] == each[question.sample_id] >= 4, (question, said)
