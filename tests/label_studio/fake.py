"""A Label Studio of a few lines, as the community edition 1.23 behaved: its order, its silences, its errors."""

import itertools
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx

from mcdal.label_studio.client import Client
from mcdal.label_studio.shapes import read_interface

URL = "http://label.test"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
CREATED = "2026-11-26T14:10:48.464408Z"


@dataclass
class FakeLabelStudio:
    """blocks: it refuses backends at private addresses. deaf: it makes them, refuses webhooks, and fails. down: no answer."""

    blocks: bool = False
    deaf: bool = False
    down: bool = False
    projects: dict = field(default_factory=dict)
    tasks: dict = field(default_factory=dict)
    annotations: dict = field(default_factory=dict)
    drafts: list = field(default_factory=list)
    users: dict = field(
        default_factory=lambda: {1: _user(1, "ann@example.org", "Ann"), 2: _user(2, "bob@example.org", "")}
    )
    uploads: dict = field(default_factory=dict)
    ml: dict = field(default_factory=dict)
    hooks: dict = field(default_factory=dict)
    storages: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    _clock: itertools.count = field(default_factory=lambda: itertools.count(1))
    _number: itertools.count = field(default_factory=lambda: itertools.count(1))

    def client(self, token=TOKEN):
        return Client(URL, token, httpx.MockTransport(self.handle))

    # What people do

    def annotate(self, task, user, *choices, cancelled=False, result=None, seconds=3.5):
        said = [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": list(choices)}}]
        number = next(self._number)
        self.annotations[number] = {
            "id": number, "task": task, "completed_by": user, "was_cancelled": cancelled, "updated_at": self._now(),
            "result": result if result is not None else said if choices else [], "lead_time": seconds,
        }  # fmt: skip
        self._touch(task)
        return number

    def change(self, annotation, *choices, result=None):
        there = self.annotations[annotation]
        if choices:
            there["result"] = [{**there["result"][0], "value": {"choices": list(choices)}}]
        if result is not None:
            there["result"] = result
        there["updated_at"] = self._now()
        self._touch(there["task"])

    def draft(self, task, user):
        """Somebody has begun, and handed nothing in."""
        self.drafts.append({"task": task, "user": user})

    def delete(self, annotation):
        self._touch(self.annotations.pop(annotation)["task"])

    def next(self, project, user):
        """next_task.py: the least score of the project's model version, of what is not labeled and not theirs."""
        of = self.projects[project]
        scored = []
        for task in self.tasks.values():
            mine = any(a["completed_by"] == user for a in self._of(task["id"]))
            scores = [p["score"] for p in task["predictions"] if p["model_version"] == of["model_version"]]
            if task["project"] == project and not task["is_labeled"] and not mine and scores:
                scored.append((min(scores), task["id"]))
        return self.tasks[min(scored)[1]] if scored else None

    def ids(self):
        return [task["data"].get("mcdal_id") for task in self.tasks.values()]

    def task_of(self, id):
        return next(number for number, task in self.tasks.items() if task["data"].get("mcdal_id") == id)

    # HTTP

    def handle(self, request):
        if self.down:
            raise httpx.ConnectError("refused")
        self.asked.append(f"{request.method} {request.url.path}")
        if request.url.path == "/api/token/refresh/":
            good = json.loads(request.content)["refresh"] == "a.personal.token"
            return httpx.Response(200, json={"access": "short"}) if good else httpx.Response(401, json={})
        if request.url.host not in ("label.test", "localhost"):
            assert "authorization" not in request.headers
            return httpx.Response(200, content=b"x" * 10, headers={"content-type": "image/png"})
        if request.headers.get("authorization") not in (f"Token {TOKEN}", "Bearer short"):
            return httpx.Response(401, json={"detail": "Invalid token."})
        for method, pattern, answer in ROUTES:
            found = re.fullmatch(pattern, request.url.path)
            if found and method == request.method:
                try:
                    return answer(self, request, *map(int, found.groups()))
                except KeyError:
                    return httpx.Response(404, json={"detail": "No Project matches the given query."})
        return httpx.Response(404, text="<!doctype html>")

    def version(self, _):
        return httpx.Response(200, json={"release": "1.23.2", "edition": "Community"})

    def whoami(self, _):
        return httpx.Response(200, json=self.users[1])

    def list_users(self, _):
        return httpx.Response(200, json=list(self.users.values()))

    def make_project(self, request):
        number = next(self._number)
        start = {
            "sampling": "Sequential sampling",
            "show_collab_predictions": True,
            "model_version": "",
            "maximum_annotations": 1,
        }
        self.projects[number] = {**start, **json.loads(request.content), "id": number, "created_at": CREATED}
        return httpx.Response(201, json=self.projects[number])

    def project(self, _, number):
        return httpx.Response(200, json=self.projects[number])

    def change_project(self, request, number):
        given = json.loads(request.content)
        predictions = [p for t in self.tasks.values() if t["project"] == number for p in t["predictions"]]
        if given.get("model_version") and given["model_version"] not in {p["model_version"] for p in predictions}:
            said = {"model_version": ["Model version doesn't exist either as live model or as static predictions."]}
            return httpx.Response(400, json={"validation_errors": said})
        self.projects[number] |= given
        return httpx.Response(200, json=self.projects[number])

    def import_(self, request, project):
        if request.url.params.get("commit_to_project") == "false":
            return self._upload(request, project)
        given, numbers = json.loads(request.content), []
        for one in given:
            number = next(self._number)
            numbers.append(number)
            self.tasks[number] = {
                "id": number, "project": project, "data": one["data"], "overlap": 1, "is_labeled": False,
                "predictions": list(one.get("predictions", [])), "updated_at": self._now(),
            }  # fmt: skip
        predictions = sum(len(one.get("predictions", [])) for one in given)
        told = {"task_count": len(given), "prediction_count": predictions, "task_ids": numbers}
        return httpx.Response(201, json=told)

    def _upload(self, request, project):
        names = re.findall(rb'filename="([^"]+)"', request.content)
        made = []
        for name in names:
            number = next(self._number)
            self.uploads[number] = {"id": number, "file": f"upload/{project}/a7aaa83b-{name.decode()}"}
            made.append(number)
        return httpx.Response(201, json={"task_count": len(names), "file_upload_ids": made})

    def list_uploads(self, request, _):
        return httpx.Response(200, json=[self.uploads[n] for n in json.loads(request.url.params["ids"])])

    def predictions(self, request, project):
        """What does not fit the interface is passed over in silence."""
        known = {c.name for c in read_interface(self.projects[project]["label_config"]).controls}
        created = 0
        for one in json.loads(request.content):
            if all(r["from_name"] in known for r in one["result"]):
                self.tasks[one.pop("task")]["predictions"].append(one)
                created += 1
        return httpx.Response(201, json={"created": created})

    def list_tasks(self, request):
        self.projects[int(request.url.params["project"])]
        after = ""
        if "query" in request.url.params:
            after = json.loads(request.url.params["query"])["filters"]["items"][0]["value"]
        mine = [
            t
            for t in self.tasks.values()
            if t["project"] == int(request.url.params["project"]) and t["updated_at"] > after
        ]
        size, page = int(request.url.params["page_size"]), int(request.url.params["page"])
        part = mine[size * (page - 1) : size * page]
        if not part and page > 1:
            return httpx.Response(404, json={"detail": "Invalid page."})
        return httpx.Response(200, json={"total": len(mine), "tasks": [self._shown(t) for t in part]})

    def task(self, _, number):
        shown = self._shown(self.tasks[number])
        for annotation in shown["annotations"]:
            annotation["completed_by"] = self.users.get(annotation["completed_by"])
        return httpx.Response(200, json=shown)

    def change_task(self, request, number):
        self.tasks[number] |= json.loads(request.content)
        return httpx.Response(200, json=self.tasks[number])

    def action(self, request):
        assert request.url.params["id"] == "delete_tasks"
        for number in json.loads(request.content)["selectedItems"]["included"]:
            del self.tasks[number]
            self.annotations = {k: a for k, a in self.annotations.items() if a["task"] != number}
        return httpx.Response(200, json={"processed_items": 1})

    def list_storages(self, _):
        return httpx.Response(200, json=self.storages)

    def make_storage(self, request):
        self.storages.append(json.loads(request.content))
        return httpx.Response(201, json=self.storages[-1])

    def list_ml(self, _):
        return httpx.Response(200, json=list(self.ml.values()))

    def make_ml(self, request):
        given = json.loads(request.content)
        if self.blocks:
            said = {"url": ["The provided URL resolves to a reserved IP address and is not allowed."]}
            return httpx.Response(400, json={"detail": "Validation error", "validation_errors": said})
        number = next(self._number)
        self.ml[number] = {"id": number, "state": "CO", "readable_state": "Connected", "error_message": None, **given}
        return self._refused() if self.deaf else httpx.Response(201, json=self.ml[number])

    def change_ml(self, request, number):
        self.ml[number] |= json.loads(request.content)
        return httpx.Response(200, json=self.ml[number])

    def delete_ml(self, _, number):
        del self.ml[number]
        return httpx.Response(204)

    def list_hooks(self, _):
        return httpx.Response(200, json=list(self.hooks.values()))

    def make_hook(self, request):
        if self.deaf:
            return self._refused()
        number = next(self._number)
        self.hooks[number] = {"id": number, **json.loads(request.content)}
        return httpx.Response(201, json=self.hooks[number])

    def change_hook(self, request, number):
        self.hooks[number] |= json.loads(request.content)
        return httpx.Response(200, json=self.hooks[number])

    def delete_hook(self, _, number):
        del self.hooks[number]
        return httpx.Response(204)

    def _refused(self):
        return httpx.Response(403, json={"detail": "URL resolves to a reserved network address (block: 127.0.0.0/8)"})

    def file(self, *_):
        return httpx.Response(200, content=b"x" * 10, headers={"content-type": "image/png"})

    # Inside

    def _now(self):
        """Minutes apart, so that what has changed can be told."""
        return (
            (datetime(2026, 11, 26, tzinfo=UTC) + timedelta(minutes=2 * next(self._clock)))
            .isoformat()
            .replace("+00:00", "Z")
        )

    def _of(self, task):
        return [a for a in self.annotations.values() if a["task"] == task]

    def _touch(self, number):
        task = self.tasks[number]
        task["updated_at"] = self._now()
        task["is_labeled"] = sum(not a["was_cancelled"] for a in self._of(number)) >= task["overlap"]

    def _shown(self, task):
        mine = [dict(a) for a in self._of(task["id"])]
        cancelled = sum(a["was_cancelled"] for a in mine)
        drafts = [draft for draft in self.drafts if draft["task"] == task["id"]]
        return {
            **task,
            "annotations": mine,
            "drafts": [draft for draft in drafts if draft["user"] == 1],  # the token's owner
            "draft_exists": bool(drafts),
            "total_annotations": len(mine) - cancelled,
            "cancelled_annotations": cancelled,
        }


def _user(number, email, first):
    return {"id": number, "email": email, "first_name": first, "last_name": ""}


F = FakeLabelStudio
ROUTES = [
    ("GET", "/api/version", F.version),
    ("GET", "/api/current-user/whoami", F.whoami),
    ("GET", "/api/users", F.list_users),
    ("POST", "/api/projects", F.make_project),
    ("GET", r"/api/projects/(\d+)", F.project),
    ("PATCH", r"/api/projects/(\d+)", F.change_project),
    ("POST", r"/api/projects/(\d+)/import", F.import_),
    ("GET", r"/api/projects/(\d+)/file-uploads", F.list_uploads),
    ("POST", r"/api/projects/(\d+)/import/predictions", F.predictions),
    ("GET", "/api/tasks", F.list_tasks),
    ("GET", r"/api/tasks/(\d+)", F.task),
    ("PATCH", r"/api/tasks/(\d+)", F.change_task),
    ("POST", "/api/dm/actions", F.action),
    ("GET", "/api/storages/localfiles", F.list_storages),
    ("POST", "/api/storages/localfiles", F.make_storage),
    ("GET", "/api/ml", F.list_ml),
    ("POST", "/api/ml", F.make_ml),
    ("PATCH", r"/api/ml/(\d+)", F.change_ml),
    ("DELETE", r"/api/ml/(\d+)", F.delete_ml),
    ("GET", "/api/webhooks/", F.list_hooks),
    ("POST", "/api/webhooks/", F.make_hook),
    ("PATCH", r"/api/webhooks/(\d+)/", F.change_hook),
    ("DELETE", r"/api/webhooks/(\d+)/", F.delete_hook),
    ("GET", r"/data/.*", F.file),
]
