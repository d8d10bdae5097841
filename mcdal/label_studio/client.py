"""Label Studio's HTTP interface, as much of it as is needed, with errors that say what to do. Many at once, never one by one."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from mcdal.errors import CampaignError

if TYPE_CHECKING:
    import httpx

Json: TypeAlias = dict[str, Any]

TIMEOUT = 120.0
"""Seconds: five hundred tasks are made in two on an idle server, and a busy one takes its time."""
PAGE = 100
AT_ONCE = 500
"""Tasks or predictions in one request: after each Label Studio counts those of all tasks anew."""


class AbsentError(CampaignError):
    """What was asked for is not on the server."""


class Client:
    """Of one server, for one token. transport: for tests."""

    def __init__(self, url: str, token: str, transport: "httpx.BaseTransport | None" = None, timeout: float = TIMEOUT):
        library = _httpx()
        self.url, self._token = url.rstrip("/"), token
        if not self.url.startswith(("http://", "https://")):
            raise CampaignError(f"--url {url}: give an address that begins with http:// or https://")
        self._http = library.Client(base_url=self.url, transport=transport, timeout=timeout)
        self._access = (
            ""  # of a personal access token: it opens nothing itself, and is changed for this for five minutes
        )
        self.calls = 0

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Server and people

    def version(self) -> str:
        return str(self._object("GET", "/api/version").get("release", "unknown"))

    def whoami(self) -> Json:
        return self._object("GET", "/api/current-user/whoami")

    def users(self) -> dict[int, Json]:
        """Everybody of the organization, by number."""
        return {int(user["id"]): user for user in self._list("GET", "/api/users")}

    # Projects

    def project(self, number: int) -> Json:
        return self._object("GET", f"/api/projects/{number}")

    def make_project(self, given: Json) -> Json:
        return self._object("POST", "/api/projects", json=given)

    def change_project(self, number: int, changes: Json) -> Json:
        return self._object("PATCH", f"/api/projects/{number}", json=changes)

    # Tasks

    def tasks(self, project: int, changed_after: str = "") -> Iterator[Json]:
        """All with their annotations and predictions, or those that changed after a time as the server wrote it."""
        query: Json = {"project": project, "page_size": PAGE, "fields": "all"}
        if changed_after:
            changed = {
                "filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime", "value": changed_after,
            }  # fmt: skip
            query["query"] = json.dumps({"filters": {"conjunction": "and", "items": [changed]}})
        seen, page = 0, 1
        while True:
            try:
                found = self._object("GET", "/api/tasks", params={**query, "page": page})
            except AbsentError:
                if page == 1:
                    raise
                return  # tasks were deleted while the pages were turned
            yield from found["tasks"]
            seen, page = seen + len(found["tasks"]), page + 1
            if not found["tasks"] or seen >= found["total"]:
                return

    def task(self, number: int) -> Json | None:
        """None where there is none, or no longer."""
        try:
            return self._object("GET", f"/api/tasks/{number}")
        except AbsentError:
            return None

    def import_tasks(self, project: int, tasks: Sequence[Json]) -> list[int]:
        """Makes tasks, their predictions with them; gives their numbers. CampaignError where it made another number of them."""
        made: list[int] = []
        for first in range(0, len(tasks), AT_ONCE):
            part = tasks[first : first + AT_ONCE]
            found = self._object(
                "POST", f"/api/projects/{project}/import", params={"return_task_ids": "true"}, json=list(part)
            )
            _same(len(part), found.get("task_count", len(found.get("task_ids", []))), "tasks", self.url)
            _same(
                sum(len(task.get("predictions", [])) for task in part),
                found["prediction_count"],
                "predictions",
                self.url,
            )
            made += found.get("task_ids", [])
        return made

    def import_predictions(self, project: int, predictions: Sequence[Json]) -> None:
        """CampaignError where the server took another number of them: it passes over what does not fit its config in silence."""
        for first in range(0, len(predictions), AT_ONCE):
            part = predictions[first : first + AT_ONCE]
            found = self._object("POST", f"/api/projects/{project}/import/predictions", json=list(part))
            _same(len(part), found["created"], "predictions", self.url)

    def change_task(self, number: int, changes: Json) -> None:
        self._object("PATCH", f"/api/tasks/{number}", json=changes)

    def delete_tasks(self, project: int, numbers: Sequence[int]) -> None:
        if numbers:
            wanted = {"selectedItems": {"all": False, "included": list(numbers)}}
            self._ask("POST", "/api/dm/actions", params={"id": "delete_tasks", "project": project}, json=wanted)

    def upload(self, project: int, files: Sequence[tuple[str, bytes, str]]) -> dict[str, str]:
        """Sends files (name, content, media type); gives the address of each in tasks, by name."""
        parts = [(f"file{i}", file) for i, file in enumerate(files)]
        sent = self._object(
            "POST", f"/api/projects/{project}/import", params={"commit_to_project": "false"}, files=parts
        )
        ids = json.dumps(sent["file_upload_ids"])
        there = self._list("GET", f"/api/projects/{project}/file-uploads", params={"ids": ids})
        found = {
            name: f"/data/{e['file']}" for e in there for name, _, _ in files if str(e["file"]).endswith(f"-{name}")
        }
        _same(len(files), len(found), "files", self.url)
        return found

    # Beside them

    def storages(self, project: int) -> list[Json]:
        """Of files on the server's own disk."""
        return self._list("GET", "/api/storages/localfiles", params={"project": project})

    def make_storage(self, project: int, path: str) -> None:
        given = {"project": project, "path": path, "title": "mcdal", "use_blob_urls": True}
        self._object("POST", "/api/storages/localfiles", json=given)

    def backends(self, project: int) -> list[Json]:
        return self._list("GET", "/api/ml", params={"project": project})

    def make_backend(self, given: Json) -> Json:
        return self._object("POST", "/api/ml", json=given)

    def delete_backend(self, number: int) -> None:
        self._ask("DELETE", f"/api/ml/{number}")

    def webhooks(self, project: int) -> list[Json]:
        return self._list("GET", "/api/webhooks/", params={"project": project})

    def make_webhook(self, given: Json) -> None:
        self._object("POST", "/api/webhooks/", json=given)

    def change_webhook(self, number: int, changes: Json) -> None:
        self._object("PATCH", f"/api/webhooks/{number}/", json=changes)

    def delete_webhook(self, number: int) -> None:
        self._ask("DELETE", f"/api/webhooks/{number}/")

    def fetch(self, address: str) -> tuple[str, int]:
        """Media type and bytes of a file that a task names. Other servers than Label Studio are not shown the token."""
        elsewhere = "://" in address and not address.startswith(f"{self.url}/")
        answer = self._send("GET", address, {}) if elsewhere else self._ask("GET", address)
        if not answer.is_success:
            raise CampaignError(f"GET {address}: the image cannot be had: {answer.status_code}")
        return answer.headers.get("content-type", ""), len(answer.content)

    # Inside

    def _object(self, method: str, path: str, **how: Any) -> Json:
        found = self._json(method, path, **how)
        if not isinstance(found, dict):
            raise CampaignError(f"{self.url}{path} answers otherwise than Label Studio does: is this its address?")
        return found

    def _list(self, method: str, path: str, **how: Any) -> list[Json]:
        found = self._json(method, path, **how)
        if not isinstance(found, list):
            raise CampaignError(f"{self.url}{path} answers otherwise than Label Studio does: is this its address?")
        return found

    def _json(self, method: str, path: str, **how: Any) -> Any:
        answer = self._ask(method, path, **how)
        try:
            return answer.json()
        except ValueError:
            raise CampaignError(
                f"{self.url}{path} answers with something else than JSON: is this the address of Label Studio?"
            ) from None

    def _ask(self, method: str, path: str, **how: Any) -> "httpx.Response":
        answer = self._send(method, path, **how)
        if answer.status_code == 401 and self._is_personal:
            self._access = ""  # it may have run out
            answer = self._send(method, path, **how)
        if answer.is_success:
            return answer
        where = f"{method} {self.url}{path}"
        words = {
            401: "Label Studio refuses the token: take a new one (Account & Settings, Access Token); a legacy token must be "
            "allowed by the organization's settings",
            403: "that is not allowed: take the token of somebody who may change the project, unless it is for another reason",
        }.get(answer.status_code)
        if words is not None:
            raise CampaignError(f"{where}: {words}. Label Studio says: {told(answer.text)}")
        if answer.status_code == 404:
            raise AbsentError(
                f"{where}: there is nothing like that: was the project or task deleted, or is it another server?"
            )
        raise CampaignError(f"{where}: Label Studio answers {answer.status_code}: {told(answer.text)}")

    def _send(self, method: str, path: str, headers: dict[str, str] | None = None, **how: Any) -> "httpx.Response":
        """headers: instead of those that tell who asks."""
        library = _httpx()
        self.calls += 1
        where = f"{method} {path if '://' in path else self.url + path}"
        try:
            answer: httpx.Response = self._http.request(
                method, path, headers={"Authorization": self._authorization()} if headers is None else headers, **how
            )
            return answer
        except library.TimeoutException:
            raise CampaignError(
                f"{where}: no answer within {self._http.timeout.read:.0f} s: the server is busy or hangs; the "
                "same command goes on, and nothing is made twice"
            ) from None
        except (library.TransportError, library.InvalidURL) as error:
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
            self._access = str(answer.json()["access"])
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


def _same(wanted: int, got: int, what: str, url: str) -> None:
    if wanted != got:
        raise CampaignError(
            f"{url} took {got} of {wanted} {what}: does the project's labeling interface still have the control that mcdal "
            "answers for? `mcdal label-studio doctor` tells"
        )


def _httpx() -> Any:
    try:
        import httpx
    except ModuleNotFoundError:
        raise CampaignError("Label Studio is talked to by httpx: pip install 'mcdal[label-studio]'") from None
    return httpx
