"""A real Label Studio as a process: offline, on a port of its own, with its data in a folder that is thrown away."""

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.campaign.annotators import free_port

COMMAND = Path(os.environ.get("LABEL_STUDIO_COMMAND", ".venv-label-studio/bin/label-studio"))
TOKEN = "0123456789abcdef0123456789abcdef01234567"
OPEN = {"ML_BLOCK_LOCAL_IP": "false", "SSRF_PROTECTION_ENABLED": "false"}


@dataclass
class Studio:
    """root: the folder that it may show files of. data: where it keeps its own."""

    data: Path
    root: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, **environment: str) -> None:
        given = {
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.data), "DJANGO_DB": "sqlite", "LABEL_STUDIO_USER_TOKEN": TOKEN,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true", "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(self.root), "COLLECT_ANALYTICS": "false",
            "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "",
        }  # fmt: skip
        who = ["--username", "ann@example.org", "--password", "Pass-word-1", "--user-token", TOKEN]
        where = ["--no-browser", "--internal-host", "127.0.0.1", "-p", str(self.port)]
        with (self.data / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(COMMAND), "start", *where, *who], stdout=log, stderr=log, env={**os.environ, **given, **environment},
                start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + 300
        while time.monotonic() < end:
            assert self.process.poll() is None, (self.data / "server.log").read_text()[-3000:]
            try:
                if httpx.get(f"{self.url}/health", timeout=2).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise AssertionError("Label Studio does not start")

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(30)
            self.process = None


@dataclass
class User:
    """Somebody who labels, by the API that the page uses."""

    http: httpx.Client

    @classmethod
    def owner(cls, studio: Studio) -> "User":
        return cls(httpx.Client(base_url=studio.url, headers={"Authorization": f"Token {TOKEN}"}, timeout=60))

    def invite(self, studio: Studio, email: str) -> "User":
        """Somebody new, who signs up by the page."""
        link = self.http.get("/api/invite").json()["invite_url"]
        with httpx.Client(base_url=studio.url, follow_redirects=True, timeout=60) as page:
            page.get(link)
            form = {"email": email, "password": "Pass-word-2", "csrfmiddlewaretoken": page.cookies["csrftoken"]}
            page.post(link, data={**form, "allow_newsletters": "false"}, headers={"Referer": studio.url})
            token = page.get("/api/current-user/token").json()["token"]
        return User(httpx.Client(base_url=studio.url, headers={"Authorization": f"Token {token}"}, timeout=60))

    def next(self, project: int) -> "dict | None":
        answer = self.http.get(f"/api/projects/{project}/next")
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    def say(self, task: int, *choices: str, cancelled: bool = False, result: "list | None" = None) -> int:
        said = [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": list(choices)}}]
        given = {"result": result if result is not None else said if choices else [], "lead_time": 2.5}
        answer = self.http.post(f"/api/tasks/{task}/annotations", json={**given, "was_cancelled": cancelled})
        return int(answer.raise_for_status().json()["id"])

    def change(self, annotation: int, *choices: str) -> None:
        said = [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": list(choices)}}]
        self.http.patch(f"/api/annotations/{annotation}", json={"result": said}).raise_for_status()

    def delete(self, annotation: int) -> None:
        self.http.delete(f"/api/annotations/{annotation}").raise_for_status()


@dataclass
class Backend:
    """`mcdal label-studio serve` as a process. It looks by itself so seldom that what it knows came by webhooks."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, python: str, *more: str) -> None:
        command = [
            python,
            "-m",
            "mcdal",
            "label-studio",
            "serve",
            str(self.folder),
            "--port",
            str(self.port),
            "--url",
            self.url,
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with (self.folder / "backend.log").open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--device", "cpu", "--every", "3600", *more], stdout=log, stderr=log, env=environment
            )

    def said(self, pattern: str, seconds: float = 60.0) -> str:
        """Waits until it has said something like that."""
        log, end = self.folder / "backend.log", time.monotonic() + seconds
        while time.monotonic() < end:
            if found := re.search(pattern, log.read_text()):
                return found[0]
            assert self.process is not None and self.process.poll() is None, log.read_text()
            time.sleep(0.1)
        raise AssertionError(f"no {pattern!r} within {seconds:.0f} s:\n{log.read_text()}")

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)
