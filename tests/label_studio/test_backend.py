"""The ML backend as Label Studio calls it."""

import subprocess
import sys
import time

import pytest
from fastapi.testclient import TestClient

from mcdal.campaign.ledger import Question
from mcdal.errors import CampaignError
from mcdal.label_studio.backend import LAST, Login, Wish, make_backend
from mcdal.label_studio.push import push
from mcdal.label_studio.questions import asked
from mcdal.label_studio.serve import only_backend, serve
from mcdal.label_studio.shapes import choices_interface
from tests.campaign.conftest import DIGITS

SCHEMA = choices_interface(DIGITS.split(","))


@pytest.fixture
def wishes():
    return []


@pytest.fixture
def web(campaign, connection, wishes):
    with TestClient(make_backend(campaign, connection, wishes.append)) as client:
        yield client


def test_health_setup_and_versions(web, connection):
    assert web.get("/health").json()["status"] == "UP"
    given = {
        "project": connection.stamp,
        "schema": SCHEMA,
        "hostname": "http://x",
        "access_token": "t",
        "extra_params": None,
    }
    assert web.post("/setup", json=given).json() == {"model_version": "mcdal-r0"}
    assert web.get("/versions").json() == {"versions": ["mcdal-r0"]}
    assert web.post("/validate", json={"config": SCHEMA}).status_code == 200


@pytest.mark.parametrize(
    ("path", "given", "words"),
    [
        ("/setup", {"project": "9.1", "schema": SCHEMA}, "this backend is for project"),
        ("/setup", {"schema": choices_interface(["cat", "dog"])}, "no classes of the campaign"),
        ("/setup", {"schema": None}, "no labeling interface was sent"),
        ("/predict", {"project": "9.1", "tasks": []}, "this backend is for project"),
        ("/predict", {"tasks": "x", "label_config": SCHEMA}, "tasks should be a list"),
        ("/predict", {"tasks": [3], "label_config": SCHEMA}, "tasks should be a list"),
        ("/validate", {}, "no labeling interface was sent"),
    ],
)
def test_what_does_not_fit_is_said(web, connection, path, given, words):
    answer = web.post(path, json={"project": connection.stamp, **given})
    assert answer.status_code == 400 and words in answer.json()["error"]


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b"{"])
def test_what_is_no_request(web, content):
    for path in ("/setup", "/predict", "/webhook"):
        assert web.post(path, content=content).status_code == 400


def predicted(web, connection, ids):
    tasks = [{"id": i, "data": {} if id is None else {"mcdal_id": id}, "annotations": []} for i, id in enumerate(ids)]
    given = {"tasks": tasks, "project": connection.stamp, "label_config": SCHEMA, "params": {"context": None}}
    return web.post("/predict", json=given).json()["results"]


def test_predictions_come_in_the_order_of_the_tasks_with_the_scores_of_a_push(
    web, campaign, client, connection, server
):
    push(campaign, client, connection)
    questions = asked(campaign)
    ids = [*reversed(questions), None, "nobody.png", 7]
    found = predicted(web, connection, ids)
    assert len(found) == len(ids)
    assert [f["score"] for f in found] == [*(q.score for q in reversed(questions.values())), LAST, LAST, LAST]
    pushed = {t["data"]["mcdal_id"]: t["predictions"][0] for t in server.tasks.values()}
    assert all(f == pushed[id] for f, id in zip(found, ids[:-3], strict=False))


def test_guesses_of_the_round_are_predicted(web, campaign, connection):
    campaign.ledger.ask([Question("new/0.png", 1, 0, "strategy")])
    campaign.ledger.explain({"new/0.png": (7, 0.9, ["why"])})
    (found,) = predicted(web, connection, ["new/0.png"])
    assert found["result"][0]["value"] == {"choices": ["7"]} and found["model_version"] == "mcdal-r1"


def test_a_thousand_predictions_take_milliseconds(web, campaign, connection):
    campaign.ledger.ask([Question(f"x/{i}.png", 0, 100 + i, "start") for i in range(1000)])
    ids = [f"x/{i}.png" for i in range(1000)]
    predicted(web, connection, ids)
    begun = time.process_time()
    assert len(predicted(web, connection, ids)) == 1000
    assert time.process_time() - begun < 1.0


@pytest.mark.parametrize(
    ("action", "more", "wanted"),
    [
        ("ANNOTATION_CREATED", {"task": {"id": 5}, "annotation": {"id": 1}}, [Wish((5,))]),
        ("ANNOTATION_UPDATED", {"task": {"id": 5}}, [Wish((5,))]),
        ("ANNOTATION_CREATED", {"task": "nonsense"}, [Wish()]),
        ("ANNOTATIONS_DELETED", {"annotations": [{"id": 1}]}, [Wish()]),
        ("START_TRAINING", {}, [Wish()]),
        ("PROJECT_UPDATED", {}, []),
        (None, {}, []),
    ],
)
def test_webhooks_say_where_to_look(web, wishes, connection, action, more, wanted):
    assert (
        web.post("/webhook", json={"action": action, "project": {"id": connection.project}, **more}).status_code == 200
    )
    assert wishes == wanted


def test_webhooks_of_other_projects_are_passed_over(web, wishes, connection):
    assert web.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 99}}).json() == {
        "status": "another project"
    }
    assert wishes == []


def test_a_webhook_cannot_say_what_somebody_answered(web, campaign, connection):
    id = next(iter(asked(campaign)))
    forged = {
        "id": 1,
        "completed_by": 1,
        "result": [{"from_name": "label", "type": "choices", "value": {"choices": ["3"]}}],
    }
    given = {
        "action": "ANNOTATION_CREATED",
        "project": {"id": connection.project},
        "task": {"id": 5, "data": {"mcdal_id": id}},
    }
    web.post("/webhook", json={**given, "annotation": forged})
    assert not asked(campaign)[id].closed


def test_with_a_login_nothing_is_answered_without_it(campaign, connection):
    login = Login("studio", "pässword:with colon")
    with TestClient(make_backend(campaign, connection, lambda _: None, login)) as web:
        for headers in ({}, {"Authorization": "Basic !"}, {"Authorization": "Bearer x"}):
            assert web.get("/health", headers=headers).status_code == 401
        assert web.get("/health", headers={"Authorization": Login("studio", "wrong").header}).status_code == 401
        assert web.get("/health", headers={"Authorization": login.header}).status_code == 200


def test_too_much_at_once_is_refused_before_it_is_read(web):
    assert web.post("/predict", content=b"{}", headers={"Content-Length": str(1 << 40)}).status_code == 413


def test_others_are_let_in_only_with_a_login(campaign, connection):
    with pytest.raises(CampaignError, match="MCDAL_LABEL_STUDIO_PASSWORD"):
        serve(campaign.folder, "0.0.0.0", 9090, "cpu", 60.0, None, None, print)


def test_one_backend_a_campaign(campaign):
    with (
        only_backend(campaign.folder),
        pytest.raises(CampaignError, match="another backend"),
        only_backend(campaign.folder),
    ):
        pass


def test_the_backend_needs_no_torch():
    code = "import sys, mcdal.label_studio.serve, mcdal.label_studio.doctor; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
