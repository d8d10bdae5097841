"""Label Studio's endpoints, as many of them as are needed. Many at once, never one by one."""

import json
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from mcdal.errors import CampaignError
from mcdal.label_studio.http import TIMEOUT, AbsentError, Http, Json

if TYPE_CHECKING:
    import httpx

PAGE = 100
AT_ONCE = 500
"""Tasks or predictions in one request: after each Label Studio counts those of all tasks anew."""
LISTED_AGAIN = 5


class Client:
    """Of one server, for one token. transport: for tests."""

    def __init__(self, url: str, token: str, transport: "httpx.BaseTransport | None" = None, timeout: float = TIMEOUT):
        self.http = Http(url, token, transport, timeout)

    @property
    def url(self) -> str:
        return self.http.url

    @property
    def calls(self) -> int:
        """Requests so far."""
        return self.http.calls

    def close(self) -> None:
        self.http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Server and people

    def version(self) -> str:
        return str(self.http.object("GET", "/api/version").get("release", "unknown"))

    def whoami(self) -> Json:
        return self.http.object("GET", "/api/current-user/whoami")

    def users(self) -> dict[int, Json]:
        """Everybody of the organization, by number."""
        return {int(user["id"]): user for user in self.http.list("GET", "/api/users")}

    # Projects

    def project(self, number: int) -> Json:
        return self.http.object("GET", f"/api/projects/{number}")

    def make_project(self, given: Json) -> Json:
        return self.http.object("POST", "/api/projects", json=given)

    def change_project(self, number: int, changes: Json) -> Json:
        return self.http.object("PATCH", f"/api/projects/{number}", json=changes)

    # Tasks

    def tasks(self, project: int, changed_after: str = "") -> Iterator[Json]:
        """All with their annotations and predictions, or those that changed after a time as the server wrote it."""
        query: Json = {"project": project, "page_size": PAGE, "fields": "all"}
        if changed_after:
            changed = {
                "filter": "filter:tasks:updated_at", "operator": "greater", "type": "Datetime", "value": changed_after,
            }  # fmt: skip
            query["query"] = json.dumps({"filters": {"conjunction": "and", "items": [changed]}})
        seen: set[int] = set()
        for _ in range(LISTED_AGAIN):
            if (yield from self._pages(query, seen)):
                return
        raise CampaignError(
            f"{self.url}: tasks of project {project} are deleted while they are listed: try again later"
        )

    def _pages(self, query: Json, seen: set[int]) -> Generator[Json, None, bool]:
        """Tasks that were not seen. False where some were deleted meanwhile: others have moved to pages that were turned."""
        before, page = 0, 1
        while True:
            try:
                found = self.http.object("GET", "/api/tasks", params={**query, "page": page})
            except AbsentError:
                if page == 1:
                    raise
                return False
            for task in found["tasks"]:
                if task["id"] not in seen:
                    seen.add(task["id"])
                    yield task
            if found["total"] < before:
                return False
            if not found["tasks"] or PAGE * page >= found["total"]:
                return True
            before, page = found["total"], page + 1

    def task(self, number: int) -> Json | None:
        """None where there is none, or no longer."""
        try:
            return self.http.object("GET", f"/api/tasks/{number}")
        except AbsentError:
            return None

    def import_tasks(self, project: int, tasks: Sequence[Json]) -> list[int]:
        """Makes tasks, their predictions with them; gives their numbers. CampaignError where it made another number of them."""
        made: list[int] = []
        for first in range(0, len(tasks), AT_ONCE):
            part = tasks[first : first + AT_ONCE]
            found = self.http.object(
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
            found = self.http.object("POST", f"/api/projects/{project}/import/predictions", json=list(part))
            _same(len(part), found["created"], "predictions", self.url)

    def change_task(self, number: int, changes: Json) -> None:
        self.http.object("PATCH", f"/api/tasks/{number}", json=changes)

    def delete_tasks(self, project: int, numbers: Sequence[int]) -> None:
        if numbers:
            wanted = {"selectedItems": {"all": False, "included": list(numbers)}}
            self.http.ask("POST", "/api/dm/actions", params={"id": "delete_tasks", "project": project}, json=wanted)

    def upload(self, project: int, files: Sequence[tuple[str, bytes, str]]) -> dict[str, str]:
        """Sends files (name, content, media type); gives the address of each in tasks, by name."""
        parts = [(f"file{i}", file) for i, file in enumerate(files)]
        sent = self.http.object(
            "POST", f"/api/projects/{project}/import", params={"commit_to_project": "false"}, files=parts
        )
        ids = json.dumps(sent["file_upload_ids"])
        there = self.http.list("GET", f"/api/projects/{project}/file-uploads", params={"ids": ids})
        found = {
            name: f"/data/{e['file']}" for e in there for name, _, _ in files if str(e["file"]).endswith(f"-{name}")
        }
        _same(len(files), len(found), "files", self.url)
        return found

    # Beside them

    def storages(self, project: int) -> list[Json]:
        """Of files on the server's own disk."""
        return self.http.list("GET", "/api/storages/localfiles", params={"project": project})

    def make_storage(self, project: int, path: str) -> None:
        given = {"project": project, "path": path, "title": "mcdal", "use_blob_urls": True}
        self.http.object("POST", "/api/storages/localfiles", json=given)

    def backends(self, project: int) -> list[Json]:
        return self.http.list("GET", "/api/ml", params={"project": project})

    def make_backend(self, given: Json) -> Json:
        return self.http.object("POST", "/api/ml", json=given)

    def change_backend(self, number: int, changes: Json) -> None:
        self.http.object("PATCH", f"/api/ml/{number}", json=changes)

    def delete_backend(self, number: int) -> None:
        self.http.ask("DELETE", f"/api/ml/{number}")

    def webhooks(self, project: int) -> list[Json]:
        return self.http.list("GET", "/api/webhooks/", params={"project": project})

    def make_webhook(self, given: Json) -> None:
        self.http.object("POST", "/api/webhooks/", json=given)

    def change_webhook(self, number: int, changes: Json) -> None:
        self.http.object("PATCH", f"/api/webhooks/{number}/", json=changes)

    def delete_webhook(self, number: int) -> None:
        self.http.ask("DELETE", f"/api/webhooks/{number}/")

    def size(self, address: str, most: int) -> tuple[str, int]:
        """Media type and bytes of a file that a task names, of which no more than `most` are read."""
        return self.http.size(address, most)


def _same(wanted: int, got: int, what: str, url: str) -> None:
    if wanted != got:
        raise CampaignError(
            f"{url} took {got} of {wanted} {what}: does the project's labeling interface still have the control that mcdal "
            "answers for? `mcdal label-studio doctor` tells"
        )
