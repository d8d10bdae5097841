"""What Label Studio calls an ML backend, over HTTP: it asks for predictions, and says when to look for annotations.

What a webhook says is never believed; it only says which tasks to look at, on the server that the campaign is connected to.
Predictions come from the store: no network is loaded, and a thousand of them take milliseconds.
"""

import base64
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.base import RequestResponseEndpoint as Next

from mcdal.campaign.definition import Opened
from mcdal.errors import CampaignError, McdalError
from mcdal.label_studio.connection import Connection
from mcdal.label_studio.push import prediction
from mcdal.label_studio.questions import asked, mcdal_id, model_version
from mcdal.label_studio.shapes import classifier
from mcdal.version import __version__

MOST_BYTES = 64 << 20
"""Of a request: Label Studio sends a hundred tasks with all their annotations."""
LAST = 1.0
"""The score of tasks that are none of this campaign's open questions: they come after all others."""
SEES = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED")
LOOKS_AT_ALL = ("ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED", "TASKS_DELETED", "START_TRAINING")


@dataclass(frozen=True)
class Wish:
    """What a webhook asks for: to look at these tasks, or at all."""

    tasks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Login:
    """What Label Studio has to give; it keeps both with the backend."""

    user: str
    password: str

    @property
    def header(self) -> str:
        """For webhooks, which Label Studio sends without the backend's user and password."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def admits(self, header: str | None) -> bool:
        kind, _, given = (header or "").partition(" ")
        try:
            said = base64.b64decode(given, validate=True) if kind.lower() == "basic" else b""
        except ValueError:
            return False
        return secrets.compare_digest(said, f"{self.user}:{self.password}".encode())


def make_backend(
    campaign: Opened, connection: Connection, wish: Callable[[Wish], None], login: Login | None = None
) -> FastAPI:
    """The application. wish: is called at once for each webhook, and must not wait. login: without it everybody is let in."""
    app = FastAPI(title="mcdal for Label Studio", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(McdalError, _in_words)
    app.add_middleware(BaseHTTPMiddleware, dispatch=_guard(login))
    app.include_router(Backend(campaign, connection, wish).routes())
    return app


def _guard(login: Login | None) -> Callable[[Request, Next], Awaitable[Response]]:
    """Lets nobody in without the login, and nothing that would fill the memory."""

    async def guarded(request: Request, call: Next) -> Response:
        if login is not None and not login.admits(request.headers.get("authorization")):
            return JSONResponse({"error": "user and password are wanted"}, 401, {"WWW-Authenticate": "Basic"})
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MOST_BYTES or "transfer-encoding" in request.headers:
            return JSONResponse({"error": "this is too much at once"}, 413)
        return await call(request)

    return guarded


@dataclass(frozen=True)
class Backend:
    """What is asked at each address, and what the answers share."""

    campaign: Opened
    connection: Connection
    wish: Callable[[Wish], None]

    def routes(self) -> APIRouter:
        router = APIRouter()
        for path in ("/", "/health"):
            router.add_api_route(path, self.health, methods=["GET"])
        for path, answer in (("/validate", self.validate), ("/setup", self.setup), ("/predict", self.predict)):
            router.add_api_route(path, _with_body(answer), methods=["POST"])
        router.add_api_route("/webhook", _at_once(self.webhook), methods=["POST"])
        router.add_api_route("/versions", self.versions, methods=["GET", "POST"])
        router.add_api_route("/train", self.train, methods=["POST"])
        for path in ("/delete", "/duplicate_model"):
            router.add_api_route(path, self.nothing, methods=["POST"])
        router.add_api_route("/job_status", self.job_status, methods=["POST"])
        return router

    def health(self) -> dict[str, Any]:
        return {"status": "UP", "model_class": "mcdal", "version": __version__}

    def versions(self) -> dict[str, Any]:
        return {"versions": [model_version(self.campaign)]}

    def train(self) -> dict[str, Any]:
        self.wish(Wish())
        return {"status": "ok", "job": None}

    def nothing(self) -> dict[str, Any]:
        """The model is the campaign's: what Label Studio does with its connection changes nothing of it."""
        return {}

    def job_status(self) -> dict[str, Any]:
        return {"job_status": "finished"}

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        self.control(given.get("config"))
        return {"status": "ok"}

    def control(self, schema: Any) -> Any:
        """CampaignError where the labeling interface is not one that the campaign's classes go into."""
        if not isinstance(schema, str):
            raise CampaignError("no labeling interface was sent")
        return classifier(schema, self.campaign.ledger.classes())[0]

    def setup(self, given: dict[str, Any]) -> dict[str, Any]:
        """Label Studio shows these errors beside the backend. Its `access_token` is not used and not kept."""
        self._of_this(given.get("project"))
        self.control(given.get("schema"))
        return {"model_version": model_version(self.campaign)}

    def predict(self, given: dict[str, Any]) -> dict[str, Any]:
        """One result a task, in their order."""
        self._of_this(given.get("project"))
        tasks = given.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise CampaignError("tasks should be a list of objects")
        control, version = self.control(given.get("label_config")), model_version(self.campaign)
        ids = [mcdal_id(task) for task in tasks]
        questions = asked(self.campaign, [id for id in dict.fromkeys(ids) if id is not None])
        classes = self.campaign.ledger.classes()
        results = []
        for id in ids:
            question = questions.get(id) if id is not None else None
            if question is None or question.closed:
                results.append({"model_version": version, "score": LAST, "result": []})
            else:
                results.append(prediction(control, classes, question, version))
        return {"results": results, "model_version": version}

    def webhook(self, given: dict[str, Any]) -> dict[str, Any]:
        """At once: Label Studio waits a second for an answer, and loses what it said otherwise."""
        action, project = given.get("action"), given.get("project")
        if isinstance(project, dict) and project.get("id") != self.connection.project:
            return {"status": "another project"}
        if action in SEES:
            number = (given.get("task") or {}).get("id") if isinstance(given.get("task"), dict) else None
            self.wish(Wish((number,) if isinstance(number, int) else ()))
        elif action in LOOKS_AT_ALL:
            self.wish(Wish())
        else:
            return {"status": "nothing to do"}
        return {"status": "ok"}

    def _of_this(self, project: Any) -> None:
        if project != self.connection.stamp:
            raise CampaignError(
                f"this backend is for project {self.connection.project} (made as {self.connection.stamp}), not for {project}: "
                "run `mcdal label-studio connect --project` and serve again"
            )


def _with_body(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Request], Awaitable[dict[str, Any]]]:
    """In a thread: the store is asked."""

    async def handle(request: Request) -> dict[str, Any]:
        return await run_in_threadpool(answer, await _body(request))

    return handle


def _at_once(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Request], Awaitable[dict[str, Any]]]:
    async def handle(request: Request) -> dict[str, Any]:
        return answer(await _body(request))

    return handle


async def _body(request: Request) -> dict[str, Any]:
    try:
        found = await request.json()
    except ValueError:
        raise CampaignError("the request is no JSON") from None
    if not isinstance(found, dict):
        raise CampaignError("the request should be an object")
    return found


async def _in_words(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)
