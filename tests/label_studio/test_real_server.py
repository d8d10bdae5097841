"""The whole way with a real Label Studio, community edition: `make test-label-studio`. Each test goes on from the last."""

import sys
import time

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from mcdal.campaign.definition import opened
from mcdal.campaign.door import Door
from mcdal.campaign.trainer import train
from mcdal.cli import app
from mcdal.command import Command
from mcdal.errors import CampaignError
from mcdal.label_studio.client import Client
from mcdal.label_studio.connection import read_connection
from mcdal.label_studio.doctor import diagnose
from mcdal.label_studio.export_masks import export_masks
from mcdal.label_studio.masks import brushes
from mcdal.label_studio.pull import pull
from mcdal.label_studio.push import push
from mcdal.label_studio.push_scenes import push_scenes
from mcdal.label_studio.questions import asked
from mcdal.label_studio.register import register
from mcdal.label_studio.shapes import masks_interface, read_interface
from mcdal.label_studio.sync import Puller
from mcdal.loop import run
from mcdal.pool.masks import read_mask
from mcdal.store import Store
from tests.campaign.conftest import begin
from tests.label_studio.real import COMMAND, OPEN, TOKEN, Backend, Studio, User

pytestmark = [
    pytest.mark.label_studio,
    pytest.mark.skipif(not COMMAND.exists(), reason="`make test-label-studio` installs Label Studio first"),
]


@pytest.fixture(scope="module")
def studio(photos, tmp_path_factory):
    made = Studio(tmp_path_factory.mktemp("studio"), photos[0].parent)
    made.start(**OPEN)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def ann(studio):
    user = User.owner(studio)
    yield user
    user.http.close()


@pytest.fixture(scope="module")
def bob(studio, ann):
    user = ann.invite(studio, "bob@example.org")
    yield user
    user.http.close()


@pytest.fixture(scope="module")
def campaign(photos, tmp_path_factory):
    """Two rounds, of which the first is asked."""
    folder = tmp_path_factory.mktemp("campaign") / "digits"
    begin(folder, photos[0], budget=24, start=14, batch=10, audit=6.0, double=0.2)
    train(folder, "cpu")
    with opened(folder) as found:
        yield found


@pytest.fixture(scope="module")
def client(studio):
    with Client(studio.url, TOKEN) as made:
        yield made


@pytest.fixture(scope="module")
def connection(campaign, studio, ann):
    """Connected by the command, twice."""
    for did in ("was made", "was connected already"):
        ran = CliRunner().invoke(
            app, ["label-studio", "connect", str(campaign.folder), "--url", studio.url, "--token", TOKEN]
        )
        assert ran.exit_code == 0 and did in ran.output, ran.output
    made = read_connection(campaign.folder)
    assert len(ann.http.get("/api/projects").json()["results"]) == 1
    return made


def mcdal_id(task):
    return task["data"]["mcdal_id"]


def answers(campaign, id):
    """Who says what of an image, as it stands."""
    door = Door(campaign.ledger, campaign.secret)
    found = {p.name: campaign.ledger.said(p.person_id, id) for p in door.people()}
    return {name: (a.verdict, a.value) for name, a in found.items() if a is not None}


def test_pushed_twice_there_once_with_images_that_are_shown(campaign, client, connection, photos):
    done = push(campaign, client, connection)
    assert (done.made, done.broken, done.classes) == (20, {}, [])
    calls = client.calls
    again = push(campaign, client, connection)
    assert (again.made, again.there, again.scored, again.removed, again.doubled) == (0, 20, 0, 0, 0)
    assert client.calls - calls == 2
    tasks = list(client.tasks(connection.project))
    assert len(tasks) == 20 == len({mcdal_id(task) for task in tasks})
    assert {q.wanted for q in asked(campaign).values()} == {1, 2}
    assert {task["overlap"] for task in tasks} == {1} and not any(task["draft_exists"] for task in tasks)
    assert client.size(tasks[0]["data"]["image"], 1 << 20) == (
        "image/png",
        (photos[0] / mcdal_id(tasks[0])).stat().st_size,
    )


def test_the_doctor_finds_nothing_but_that_no_backend_is_there(campaign, client, connection):
    found = {check.name: check for check in diagnose(client, campaign, connection)}
    assert {name for name, check in found.items() if check.verdict != "ok"} == {"backend"}
    ran = CliRunner().invoke(app, ["label-studio", "doctor", str(campaign.folder)])
    assert ran.exit_code == 0 and "least score of mcdal-r0 first" in ran.output


def test_two_users_are_given_images_in_our_order(campaign, client, connection, ann, bob, photos):
    """By turns. Each gets what comes first of what is not labeled enough and not theirs."""
    truth, said = photos[1], {id: [] for id in asked(campaign)}
    for step in range(12):
        user = (ann, bob)[step % 2]
        task = user.next(connection.project)
        first = next(id for id, q in asked(campaign).items() if not q.closed and user not in said[id])
        assert mcdal_id(task) == first
        user.say(task["id"], str(truth[first]))
        said[first].append(user)
        report = pull(campaign, client, connection)  # a second person is asked when the first one's answer is here
        assert (report.kinds["new"], report.told) == (1, {})
    assert pull(campaign, client, connection).lines() == ["12 annotations: nothing new"]
    for id, users in said.items():
        names = {"ann@example.org" if user is ann else "bob@example.org" for user in users}
        assert answers(campaign, id) == dict.fromkeys(names, ("label", truth[id]))


def test_skipped_corrected_deleted_partial_and_doubled(campaign, client, connection, ann, bob):
    def anns(task):
        return answers(campaign, mcdal_id(task)).get("ann@example.org")

    puller = Puller(campaign, client, connection)
    puller.pull()
    tasks = [ann.next(connection.project)]
    skipped = ann.say(tasks[0]["id"], cancelled=True)
    for _ in range(3):
        tasks.append(ann.next(connection.project))
        number = ann.say(tasks[-1]["id"], *(["3"] if len(tasks) < 4 else []))
    report = puller.pull()
    assert report.kinds["new"] == 3 and report.kinds["partial"] == 1
    assert anns(tasks[0]) == ("skip", None)
    kept = {
        task["id"]: [a["id"] for a in task["annotations"] if a["completed_by"] == 1]
        for task in client.tasks(connection.project)
    }
    ann.change(kept[tasks[1]["id"]][0], "4")
    ann.delete(kept[tasks[2]["id"]][0])
    ann.change(number, "5")
    ann.say(tasks[1]["id"], "6")
    report = puller.pull()
    assert [report.kinds[k] for k in ("corrected", "deleted", "new", "duplicate")] == [1, 1, 1, 1]
    assert anns(tasks[1]) == ("label", 6)
    assert anns(tasks[2]) is None
    assert anns(tasks[3]) == ("label", 5)
    assert pull(campaign, client, connection).changes == 0
    ann.delete(skipped)
    pull(campaign, client, connection)
    assert anns(tasks[0]) is None
    assert push(campaign, client, connection).made == 0


def test_tasks_of_others_in_the_same_project(campaign, client, connection, ann):
    (own,) = client.import_tasks(connection.project, [{"data": {"image": "http://127.0.0.1:9/x.png"}}])
    ann.say(own, "3")
    assert pull(campaign, client, connection).told["foreign"] == [f"task {own}"]
    push(campaign, client, connection)
    assert client.task(own) is not None
    client.delete_tasks(connection.project, [own])
    assert client.task(own) is None


def test_predictions_that_do_not_fit_are_found_out(client, connection):
    task = next(client.tasks(connection.project))
    wrong = {"from_name": "nope", "to_name": "image", "type": "choices", "value": {"choices": ["3"]}}
    with pytest.raises(CampaignError):
        client.import_predictions(
            connection.project, [{"task": task["id"], "model_version": "x", "score": 0.1, "result": [wrong]}]
        )


@pytest.fixture(scope="module")
def backend(campaign, connection):
    made = Backend(campaign.folder)
    made.start(sys.executable)
    made.said("is registered as backend")
    yield made
    if made.process.poll() is None:
        made.stop()


def test_the_backend_is_connected_and_asked_for_predictions(campaign, client, connection, backend, ann):
    (there,) = client.backends(connection.project)
    assert (there["state"], there["model_version"], there["url"]) == ("CO", "mcdal-r0", backend.url)
    before = {task["id"]: task["predictions"][0]["score"] for task in client.tasks(connection.project)}
    everything = {"selectedItems": {"all": True, "excluded": []}}
    for action in ("delete_tasks_predictions", "retrieve_tasks_predictions"):
        ann.http.post(
            "/api/dm/actions", params={"id": action, "project": connection.project}, json=everything
        ).raise_for_status()
    questions = asked(campaign)
    after = {task["id"]: (task["predictions"][0]["score"], mcdal_id(task)) for task in client.tasks(connection.project)}
    assert set(after) == set(before) and len(after) == 20
    for number, (score, id) in after.items():
        assert score == pytest.approx(1.0 if questions[id].closed else before[number])
    assert {c.name: c.verdict for c in diagnose(client, campaign, connection)}["backend"] == "ok"


def until(what, seconds=20.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def test_webhooks_bring_answers_at_once(campaign, client, connection, backend, ann, bob):
    task = bob.next(connection.project)
    id = mcdal_id(task)
    number = bob.say(task["id"], "1")
    until(lambda: answers(campaign, id).get("bob@example.org") == ("label", 1))
    bob.change(number, "2")
    until(lambda: answers(campaign, id).get("bob@example.org") == ("label", 2))
    bob.delete(number)
    until(lambda: "bob@example.org" not in answers(campaign, id))


def test_a_full_round_is_trained_and_the_next_one_pushed(campaign, client, connection, backend, ann, bob, photos):
    def answered():
        """By turns, until nobody is asked: a second person is when the first one's answer has come by its webhook."""
        for user in (ann, bob):
            task = user.next(connection.project)
            if task is not None and task["data"]["mcdal_round"] == 0:
                user.say(task["id"], str(photos[1][mcdal_id(task)]))
        return all(q.closed for q in asked(campaign).values() if q.round == 0)

    until(answered, 120.0)
    backend.said(r"mcdal-r1: 10 new tasks", 120.0)
    until(lambda: client.project(connection.project)["model_version"] == "mcdal-r1")
    new = campaign.ledger.of_round(1)
    assert [q.sample_id for q in new if q.guess is not None]
    assert mcdal_id(ann.next(connection.project)) == new[0].sample_id
    shown = {
        mcdal_id(t): t["predictions"][0]["result"] for t in client.tasks(connection.project) if t["data"]["mcdal_round"]
    }
    assert {id for id, result in shown.items() if result} == {q.sample_id for q in new if q.guess is not None}
    assert backend.stop() == 130


def test_afterwards_everything_is_as_it_was(campaign, client, connection):
    again = push(campaign, client, connection)
    assert (again.version, again.made, again.scored, again.removed) == ("mcdal-r1", 0, 0, 0)
    assert pull(campaign, client, connection).changes == 0
    ran = CliRunner().invoke(app, ["label-studio", "sync", str(campaign.folder)])
    assert ran.exit_code == 0 and "nothing new" in ran.output and "0 new tasks" in ran.output, ran.output


def test_a_backend_that_wants_a_login_hears_webhooks_too(campaign, client, connection, ann, monkeypatch):
    for there in client.backends(connection.project):
        client.delete_backend(there["id"])
    monkeypatch.setenv("MCDAL_LABEL_STUDIO_PASSWORD", "open: sesame")
    backend = Backend(campaign.folder)
    backend.start(sys.executable, "--user", "studio")
    try:
        backend.said("is registered as backend")
        assert httpx.get(f"{backend.url}/health").status_code == 401
        assert [there["state"] for there in client.backends(connection.project)] == ["CO"]
        task = ann.next(connection.project)
        ann.say(task["id"], "1")
        until(lambda: answers(campaign, mcdal_id(task)).get("ann@example.org") == ("label", 1))
    finally:
        backend.stop()


def test_personal_access_tokens_open_too(studio, ann):
    token = ann.http.post("/api/token/").raise_for_status().json()["token"]
    with Client(studio.url, token) as client:
        assert client.whoami()["email"] == "ann@example.org"
    with Client(studio.url, "0" * 40) as client, pytest.raises(CampaignError, match="refuses the token"):
        client.whoami()


def test_images_on_the_servers_own_disk(studio, photos, tmp_path):
    begin(tmp_path / "local", photos[0], budget=10, start=10, audit=2.0)
    train(tmp_path / "local", "cpu")
    where = ["--url", studio.url, "--token", TOKEN, "--local-root", str(photos[0].parent)]
    for command in (
        ["connect", str(tmp_path / "local"), *where],
        ["push", str(tmp_path / "local")],
        ["doctor", str(tmp_path / "local")],
    ):
        ran = CliRunner().invoke(app, ["label-studio", *command])
        assert ran.exit_code == 0, ran.output
    assert "image: /data/local-files/?d=" in ran.output and "image/png" in ran.output


def test_brushes_go_there_and_come_back_bit_by_bit(studio, ann, client, tmp_path):
    interface = masks_interface(["road", "sky"], ["brushlabels", "polygonlabels"])
    project = client.make_project({"title": "scenes", "label_config": interface})["id"]
    mask = np.random.default_rng(0).choice(np.array([0, 1, 255], dtype=np.uint8), (48, 64))
    results = brushes(mask, ["road", "sky"], read_interface(interface).controls[0])
    prediction = {"model_version": "mcdal", "score": 0.5, "result": results}
    data = {"image": "http://127.0.0.1:9/a.png", "mcdal_id": "mon/a.png"}
    (task,) = client.import_tasks(project, [{"data": data, "predictions": [prediction]}])
    ann.say(task, result=results)
    assert export_masks(client, project, tmp_path).masks == 1
    assert (read_mask(tmp_path / "masks" / "mon" / "a.png", (48, 64)) == mask).all()
    theirs = ann.http.get(f"/api/projects/{project}/export", params={"exportType": "BRUSH_TO_PNG"})
    assert theirs.status_code == 200 and len(theirs.content) > 100


def test_scenes_of_a_run_come_in_its_order_with_what_its_model_draws(studio, ann, client, tmp_path):
    id = run(Command("tests.label_studio.scene_recipes:blocks").plan(), tmp_path, device="cpu")
    store = Store(tmp_path)
    asked = store.asked(id, store.rounds(id)[-1].round)
    store.close()
    for new in (len(asked), 0):
        done = push_scenes(tmp_path, id, client, None)
        assert (done.made, done.there) == (new, len(asked) - new)
    project = int(done.page.rpartition("/")[2])
    given = []
    while (task := ann.next(project)) is not None:
        given.append(mcdal_id(task))
        assert client.size(task["data"]["image"], 1 << 20)[0] == "image/png"
        ann.say(task["id"], result=task["predictions"][0]["result"])
    assert tuple(given) == asked
    assert export_masks(client, project, tmp_path / "drawn").masks == len(asked)


def test_drafts_of_others_are_seen(studio, ann, bob, client):
    """What `push` spares: the list shows drafts of the token's owner alone, but whether there are some."""
    project = client.make_project({"title": "drafts", "label_config": masks_interface(["sky"], ["brushlabels"])})["id"]
    (task,) = client.import_tasks(project, [{"data": {"image": "http://127.0.0.1:9/a.png"}}])
    bob.http.post(f"/api/tasks/{task}/drafts", json={"result": [], "lead_time": 1.0}).raise_for_status()
    (listed,), single = list(client.tasks(project)), client.task(task)
    assert (listed["drafts"], listed["draft_exists"], single["draft_exists"]) == ([], True, True)


def test_a_server_as_it_comes_refuses_a_backend_here_and_the_doctor_says_why(studio, campaign, client, connection):
    studio.stop()
    studio.start()
    backend = Backend(campaign.folder)
    with pytest.raises(CampaignError, match=r"ML_BLOCK_LOCAL_IP=false"):
        register(client, connection, backend.url)
    found = {c.name: c for c in diagnose(client, campaign, connection, backend.url)}["backend"]
    assert found.verdict == "wrong" and "ML_BLOCK_LOCAL_IP=false" in found.todo


def test_a_server_that_takes_backends_but_no_webhooks(studio, campaign, client, connection):
    studio.stop()
    studio.start(ML_BLOCK_LOCAL_IP="false")
    backend = Backend(campaign.folder)
    backend.start(sys.executable)
    try:
        said = backend.said(r"is registered as backend without a webhook.*")
        assert "SSRF_PROTECTION_ENABLED=false" in said
        found = [c for c in diagnose(client, campaign, connection) if backend.url in c.seen]
        assert [c.verdict for c in found] == ["look"] and "has no webhook" in found[0].seen
    finally:
        backend.stop()
