"""Requests to a Label Studio, and what goes wrong with them in words that say what to do."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from mcdal.errors import CampaignError

if TYPE_CHECKING:
    import httpx

Json: TypeAlias = dict[str, Any]

TIMEOUT = 120.0
"""Seconds: five hundred tasks are made in two on an idle server, and a busy one takes its time."""


class AbsentError(CampaignError):
    """What was asked for is not on the server."""


class Http:
    """To one server, with one token. transport: for tests. CampaignError for an address that cannot be one."""

    def __init__(self, url: str, token: str, transport: "httpx.BaseTransport | None" = None, timeout: float = TIMEOUT):
        library = _httpx()
        self.url, self._token = _checked(url), token
        try:
            self._http = library.Client(base_url=self.url, transport=transport, timeout=timeout)
        except library.InvalidURL as error:
            raise CampaignError(f"--url {url}: {error}") from None
        # Of a personal access token: it opens nothing itself, and is changed for this for five minutes.
        self._access = ""
        self.calls = 0

    def close(self) -> None:
        self._http.close()

    def object(self, method: str, path: str, **how: Any) -> Json:
        found = self._json(method, path, **how)
        if not isinstance(found, dict):
            raise CampaignError(f"{self.url}{path} answers otherwise than Label Studio does: is this its address?")
        return found

    def list(self, method: str, path: str, **how: Any) -> "list[Json]":
        found = self._json(method, path, **how)
        if not isinstance(found, list):
            raise CampaignError(f"{self.url}{path} answers otherwise than Label Studio does: is this its address?")
        return found

    def ask(self, method: str, path: str, **how: Any) -> "httpx.Response":
        """What Label Studio answers. AbsentError where there is nothing like that, CampaignError where it refuses."""
        with self._words(method, path):
            answer = self._send(method, path, **how)
            if answer.status_code == 401 and self._is_personal:
                self._access = ""  # it may have run out
                answer = self._send(method, path, **how)
        if not answer.is_success:
            raise _refused(f"{method} {self.url}{path}", answer)
        return answer

    def size(self, address: str, most: int) -> tuple[str, int]:
        """Media type and bytes of a file; no more than `most` of them are read. Other servers are not shown the token."""
        elsewhere = "://" in address and not address.startswith(f"{self.url}/")
        read = 0
        with self._words("GET", address):
            self.calls += 1
            headers = {} if elsewhere else {"Authorization": self._authorization()}
            with self._http.stream("GET", address, headers=headers) as answer:
                if answer.is_success:
                    for part in answer.iter_bytes():
                        read += len(part)
                        if read >= most:
                            break
        if not answer.is_success:
            raise CampaignError(f"GET {address}: the image cannot be had: {answer.status_code}{_elsewhere(answer)}")
        return answer.headers.get("content-type", ""), min(read, most)

    # Inside

    def _json(self, method: str, path: str, **how: Any) -> Any:
        answer = self.ask(method, path, **how)
        try:
            return answer.json()
        except ValueError:
            raise CampaignError(
                f"{self.url}{path} answers with something else than JSON: is this the address of Label Studio?"
            ) from None

    def _send(self, method: str, path: str, **how: Any) -> "httpx.Response":
        self.calls += 1
        answer: httpx.Response = self._http.request(
            method, path, headers={"Authorization": self._authorization()}, **how
        )
        return answer

    @contextmanager
    def _words(self, method: str, path: str) -> Iterator[None]:
        """For what the network does."""
        library = _httpx()
        where = f"{method} {path if '://' in path else self.url + path}"
        try:
            yield
        except library.TimeoutException:
            raise CampaignError(
                f"{where}: no answer within {self._http.timeout.read:.0f} s: the server is busy or hangs. It may do yet what "
                "it was asked for: look there before you run the command again"
            ) from None
        except (library.RequestError, library.InvalidURL) as error:
            raise CampaignError(
                f"{where}: the server does not answer ({error}): is it running, and is this its address?"
            ) from None

    @property
    def _is_personal(self) -> bool:
        return self._token.count(".") == 2

    def _authorization(self) -> str:
        if not self._is_personal:
            return f"Token {self._token}"
        if not self._access:
            answer = self._http.post("/api/token/refresh/", json={"refresh": self._token})
            if not answer.is_success:
                raise CampaignError(
                    f"{self.url}: Label Studio refuses the personal access token: make a new one (Account & Settings)"
                )
            try:
                self._access = str(answer.json()["access"])
            except (ValueError, KeyError, TypeError):
                raise CampaignError(
                    f"{self.url}/api/token/refresh/ gives no token: is this the address of Label Studio?"
                ) from None
        return f"Bearer {self._access}"


def told(text: str) -> str:
    """What the server says is wrong, in a line."""
    try:
        found = json.loads(text)
    except ValueError:
        return "no reason given" if text.lstrip().startswith("<") or not text.strip() else " ".join(text.split())[:500]
    if isinstance(found, dict):
        said = found.get("validation_errors") or found.get("detail") or found
        if isinstance(said, dict):
            said = "; ".join(f"{k}: {v[0] if isinstance(v, list) and v else v}" for k, v in said.items())
        return " ".join(str(said).split())[:1000]
    return " ".join(str(found).split())[:1000]


def _refused(where: str, answer: "httpx.Response") -> CampaignError:
    words = {
        401: "Label Studio refuses the token: take a new one (Account & Settings, Access Token); a legacy token must be "
        "allowed by the organization's settings",
        403: "that is not allowed: take the token of somebody who may change the project, unless it is for another reason",
    }.get(answer.status_code)
    if words is not None:
        return CampaignError(f"{where}: {words}. Label Studio says: {told(answer.text)}")
    if answer.status_code == 404:
        return AbsentError(
            f"{where}: there is nothing like that: was the project or task deleted, or is it another server?"
        )
    if answer.is_redirect:
        return CampaignError(
            f"{where}: Label Studio answers {answer.status_code}{_elsewhere(answer)}: is that its address?"
        )
    return CampaignError(f"{where}: Label Studio answers {answer.status_code}: {told(answer.text)}")


def _elsewhere(answer: "httpx.Response") -> str:
    return f", it is at {answer.headers['location']}" if answer.is_redirect else ""


def _checked(url: str) -> str:
    """Without a slash at its end. What may be a password in it is not shown."""
    if "@" in url.removeprefix("http://").removeprefix("https://").split("/")[0]:
        raise CampaignError("--url: give the address without a user and a password; the token is enough")
    try:
        is_address = urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname)
    except ValueError:
        is_address = False
    if not is_address:
        raise CampaignError(f"--url {url}: give an address that begins with http:// or https://")
    return url.rstrip("/")


def _httpx() -> Any:
    try:
        import httpx
    except ModuleNotFoundError:
        raise CampaignError("Label Studio is talked to by httpx: pip install 'mcdal[label-studio]'") from None
    return httpx
