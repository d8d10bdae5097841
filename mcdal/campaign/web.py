"""The page of a campaign over HTTP: who comes in by an invitation gets images, gives answers, takes them back."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from itsdangerous import BadSignature, URLSafeSerializer
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

from mcdal.campaign.definition import Opened
from mcdal.campaign.door import SESSION, Door, Person
from mcdal.campaign.ledger import LEASE, Given, Ledger, Question
from mcdal.campaign.progress import PICKED, accuracy, finished_rounds
from mcdal.campaign.showing import Pictures, Size, TooLargeError
from mcdal.campaign.sign_in import sign_in_page
from mcdal.errors import CampaignError, McdalError, PoolError

LOG = logging.getLogger(__name__)
MOST_BYTES = 256 * 1024
"""Of a request: 200 answers with long ids are a tenth of it."""
MOST_AWAY = 200
"""Images that are passed over in one request because they cannot be seen."""
MEDIA = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}


Words = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""What PostgreSQL can keep."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Next(Strict):
    count: int = Field(ge=0, le=48)
    held: list[Annotated[Words, Field(max_length=4096)]] = Field(default=[], max_length=5000)
    grid: bool = False


class Said(Strict):
    key: Words = Field(min_length=8, max_length=64)
    id: Words = Field(max_length=4096)
    verdict: Literal["label", "skip", "cannot_tell"]
    value: int | None = None
    seconds: float | None = Field(default=None, ge=0, le=86_400)


class Answers(Strict):
    answers: list[Said] = Field(max_length=200)


class Undo(Strict):
    key: Words = Field(min_length=8, max_length=64)
    of: Words = Field(min_length=8, max_length=64)


@dataclass
class Beside:
    """What goes on beside the people; whoever runs the trainer keeps it up to date."""

    phase: Literal["labeling", "training", "finished", "stopped"] = "labeling"
    message: str = ""
    suggestions: tuple[str, ...] = ()
    """Reasons to stop."""


class UnwelcomeError(Exception):
    """A request that is turned away. code: for the page; the message is for a person."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code = status, code


def make_app(campaign: Opened, beside: Beside, hosts: list[str]) -> FastAPI:
    """The application. hosts: names by which it may be asked for; any other is refused, as a page elsewhere would use it."""
    site = Site(campaign, beside)
    app = FastAPI(title="mcdal campaign", docs_url=None, redoc_url=None, openapi_url=None)
    app.middleware("http")(_guarded)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    for kind, handler in (
        (UnwelcomeError, _unwelcome), (RequestValidationError, _not_understood), (McdalError, _in_words)
    ):  # fmt: skip
        app.add_exception_handler(kind, handler)

    def visitor(request: Request) -> "Visitor":
        return site.visitor(request.cookies.get(site.cookie))

    def author(
        who: Annotated["Visitor", Depends(visitor)], x_csrf: Annotated[str | None, Header()] = None
    ) -> "Visitor":
        if not site.door.is_csrf(who.session, x_csrf):
            raise UnwelcomeError(403, "csrf", "This page is out of date: load it again.")
        return who

    Here = Annotated[Visitor, Depends(visitor)]
    Writes = Annotated[Visitor, Depends(author)]

    @app.get("/")
    def page(request: Request) -> Response:
        if site.door.who(request.cookies.get(site.cookie)) is None:
            return HTMLResponse(sign_in_page(campaign.name), 401)
        return HTMLResponse(site.files["label.html"], headers={"Cache-Control": "no-cache"})

    @app.get("/enter/{token}")
    def invitation(token: str) -> Response:
        try:
            person = site.door.names(token)
        except CampaignError as error:
            return HTMLResponse(sign_in_page(campaign.name, problem=str(error)), 410)
        return HTMLResponse(sign_in_page(campaign.name, token, "" if person is None else person.name))

    @app.post("/enter/{token}")
    async def enter(token: str, request: Request) -> Response:
        origin = request.headers.get("origin", "null")
        if origin != "null" and urlsplit(origin).netloc != request.headers.get("host"):
            raise UnwelcomeError(403, "elsewhere", "This form was sent from another page.")
        try:
            given = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=4)
        except ValueError as error:
            raise UnwelcomeError(400, "bad_request", "This form cannot be read.") from error
        try:
            person = await run_in_threadpool(site.door.enter, token, given.get("name", [""])[0])
        except CampaignError as error:
            return HTMLResponse(sign_in_page(campaign.name, token, problem=str(error)), 409)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            site.cookie, site.door.session(person), max_age=int(SESSION.total_seconds()), httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return response

    @app.post("/sign-out")
    def sign_out(who: Writes) -> Response:
        response = Response(status_code=204)
        response.delete_cookie(site.cookie)
        return response

    @app.get("/api/state")
    def state(who: Here) -> dict[str, Any]:
        return site.state(who)

    @app.post("/api/next")
    def following(who: Writes, wanted: Next) -> dict[str, Any]:
        return {"items": site.items(who.person, wanted), "state": site.state(who)}

    @app.post("/api/answers")
    def answers(who: Writes, given: Answers) -> dict[str, Any]:
        said = [Given(a.key, a.id, a.verdict, a.value, a.seconds) for a in given.answers]
        receipts = site.ledger.answer(who.person.person_id, said)
        return {"results": [vars(receipt) for receipt in receipts], "state": site.state(who)}

    @app.post("/api/undo")
    def undo(who: Writes, wanted: Undo) -> dict[str, Any]:
        before = site.ledger.answered(who.person.person_id, wanted.of)
        receipt, question = site.ledger.undo(who.person.person_id, wanted.key, wanted.of)
        item = None if question is None else site.item(question, before)
        told: dict[str, Any] = {name: value for name, value in vars(receipt).items() if name != "key"}
        return told | {"item": item, "state": site.state(who)}

    @app.get("/image/{token}")
    def image(who: Here, token: str) -> Response:
        return site.show(token, "image")

    @app.get("/thumb/{token}")
    def thumb(who: Here, token: str) -> Response:
        return site.show(token, "thumb")

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        content = site.files.get(name)
        ending = name.rpartition(".")[2]
        if content is None or ending not in MEDIA:
            raise UnwelcomeError(404, "not_found", "There is no such file.")
        return Response(content, media_type=MEDIA[ending], headers={"Cache-Control": "no-cache"})

    return app


@dataclass(frozen=True)
class Visitor:
    """A person with the session that they came with."""

    person: Person
    session: str


class Site:
    """What the handlers share."""

    def __init__(self, campaign: Opened, beside: Beside):
        self.campaign, self.beside = campaign, beside
        self.ledger: Ledger = campaign.ledger
        self.guesses = campaign.campaign.guesses  # asked of the store once, not for every image
        self.door = Door(self.ledger, campaign.secret)
        self.pictures = Pictures.of(campaign, lists=False)  # whoever trains lists
        self.files = {f.name: f.read_text(encoding="utf-8") for f in files("mcdal.campaign").joinpath("page").iterdir()}
        self.cookie = f"mcdal_{campaign.identity}"  # browsers share cookies between the ports of a host
        self._signed = URLSafeSerializer(campaign.secret, salt="image")

    def visitor(self, session: str | None) -> Visitor:
        person = self.door.who(session)
        if person is None or session is None:
            raise UnwelcomeError(401, "signed_out", "You are signed out: use your link again, or ask for a new one.")
        return Visitor(person, session)

    def state(self, who: Visitor) -> dict[str, Any]:
        definition, ledger = self.campaign.campaign, self.ledger
        round = ledger.last_round()
        of_round = ledger.progress(round)
        found, waits = accuracy(self.campaign), ledger.waits()
        phase = "labeling" if waits and self.beside.phase != "stopped" else self.beside.phase
        if not waits and finished_rounds(self.campaign) >= definition.rounds:
            phase = "finished"
        # As of the round before: a number that stands still with one answer in ten would tell which images are of the audit.
        picked = ledger.progress(arms=PICKED, before=None if phase == "finished" else round or 0)
        return {
            "csrf": self.door.csrf(who.session),
            "campaign": definition.name,
            "identity": self.campaign.identity,
            "classes": [{"number": i, "name": name} for i, name in enumerate(ledger.classes())],
            "person": {"name": who.person.name, "labels": ledger.labels_of(who.person.person_id)},
            "round": {"number": round or 0, "done": of_round.closed, "total": of_round.asked},
            "budget": {"labels": picked.labels, "total": definition.budget},
            "phase": phase,
            "message": self.beside.message,
            "suggestions": list(self.beside.suggestions),
            "guesses": definition.guesses,
            "accuracy": found and {"value": found.value, "low": found.low, "high": found.high},
        }

    def items(self, person: Person, wanted: Next) -> list[dict[str, Any]]:
        """Images that cannot be seen now are passed over. UnwelcomeError where there is nothing else: the disk may be away."""
        guessed = None
        if wanted.grid:
            common = self.ledger.guesses(person.person_id) if self.guesses else []
            if not common:
                return []
            guessed = common[0][0]
        there: list[Question] = []
        away: list[str] = []
        while len(there) < wanted.count:
            held = [*wanted.held, *away, *(q.sample_id for q in there)]
            found = self.ledger.next(person.person_id, wanted.count - len(there), held, guessed)
            if not found:
                break
            there += [q for q in found if self.pictures.is_there(q.sample_id)]
            away += [q.sample_id for q in found if not self.pictures.is_there(q.sample_id)]
            if len(away) >= MOST_AWAY:
                break
        if wanted.count == 0:
            self.ledger.next(person.person_id, 0, wanted.held)
        if away and not there:
            raise UnwelcomeError(
                503, "unavailable", f"{len(away)} images cannot be read now: is the folder of the images there?"
            )
        return [self.item(q, self.ledger.said(person.person_id, q.sample_id)) for q in there]

    def item(self, question: Question, given: Any) -> dict[str, Any]:
        try:
            width, height = self.pictures.size(question.sample_id)
            version = self.pictures.version(question.sample_id)
        except PoolError:
            width, height, version = 0, 0, ""
        token = self._signed.dumps([question.sample_id, version])
        shown = self.guesses and question.guess is not None
        return {
            "id": question.sample_id, "image": f"/image/{token}", "thumb": f"/thumb/{token}", "width": width, "height": height,
            "why": list(question.why) if shown else list(question.why[:1]),  # the rest says what the model thinks
            "guess": {"class": question.guess, "confidence": question.confidence} if shown else None,
            "given": None if given is None else {"verdict": given.verdict, "value": given.value},
            "lease_seconds": int(LEASE.total_seconds()),
        }  # fmt: skip

    def show(self, token: str, size: Size) -> Response:
        try:
            id, _ = self._signed.loads(token)
            shown = self.pictures.show(id, size)
        except BadSignature:
            raise UnwelcomeError(404, "not_found", "There is no such image.") from None
        except TooLargeError as error:
            raise UnwelcomeError(404, "no_image", str(error)) from error
        except PoolError as error:
            LOG.warning("%s", error)  # with paths and advice that are not for those who label
            raise UnwelcomeError(404, "no_image", f"The image {id!r} cannot be shown now.") from error
        return Response(shown.content, media_type=shown.media_type, headers=FOR_EVER)


async def _guarded(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuses bodies that are too large before they are read; sets the headers that keep a browser from being fooled."""
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MOST_BYTES or "chunked" in request.headers.get("transfer-encoding", ""):
        response: Response = JSONResponse({"error": "too_large", "message": "This is too much at once."}, 413)
    else:
        response = await call(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


async def _unwelcome(_: Request, error: Exception) -> Response:
    assert isinstance(error, UnwelcomeError)
    return JSONResponse({"error": error.code, "message": str(error)}, error.status)


async def _not_understood(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"][1:]))
    return JSONResponse({"error": "bad_request", "message": f"{where}: {first['msg']}"}, 400)


async def _in_words(_: Request, error: Exception) -> Response:
    """What the store says, such as a full disk: the page keeps its answers and tries again."""
    message = str(error)
    if isinstance(error, PoolError):
        LOG.warning("%s", error)
        message = "The images cannot be read now: the page tries again."
    return JSONResponse({"error": "unavailable", "message": message}, 503)
