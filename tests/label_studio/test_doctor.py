"""What goes wrong in practice is found, with what to do."""

import pytest

from mcdal.campaign.definition import opened
from mcdal.errors import CampaignError
from mcdal.label_studio.backend import Login
from mcdal.label_studio.connect import connect
from mcdal.label_studio.doctor import diagnose
from mcdal.label_studio.push import push
from mcdal.label_studio.register import is_private, register
from tests.campaign.conftest import begin

BACKEND = "http://127.0.0.1:9090"


@pytest.fixture
def pushed(campaign, client):
    made, _ = connect(campaign, client, None, "upload", "", None)
    push(campaign, client, made)
    return made


@pytest.fixture
def look(campaign, client, pushed):
    return lambda **how: {c.name: c for c in diagnose(client, campaign, pushed, **how)}


def test_a_healthy_server(look, client, pushed):
    register(client, pushed, BACKEND)
    found = look()
    assert {c.verdict for c in found.values()} == {"ok"}, [c.line() for c in found.values()]
    assert set(found) == {"server", "token", "project", "interface", "settings", "tasks", "order", "image", "backend"}


@pytest.mark.parametrize(
    ("change", "name", "verdict"),
    [
        ({"sampling": "Sequential sampling"}, "sampling", "wrong"),
        ({"maximum_annotations": 3}, "overlap", "wrong"),
        ({"skip_queue": "IGNORE_SKIPPED"}, "skipping", "look"),
        ({"model_version": "other"}, "model version", "wrong"),
        ({"show_overlap_first": True}, "overlap first", "look"),
        ({"evaluate_predictions_automatically": True}, "automatic predictions", "look"),
        ({"label_config": "<View/>"}, "interface", "wrong"),
    ],
)
def test_settings_that_spoil_the_order(look, server, pushed, change, name, verdict):
    server.projects[pushed.project] |= change
    found = look()[name]
    assert found.verdict == verdict and (found.todo or name == "interface")


def test_predictions_that_people_would_follow(photos, tmp_path, client, server):
    begin(tmp_path / "c", photos[0], guesses=False)
    with opened(tmp_path / "c") as campaign:
        made, _ = connect(campaign, client, None, "upload", "", None)
        assert "guesses" not in {c.name for c in diagnose(client, campaign, made)}
        server.projects[made.project]["show_collab_predictions"] = True
        assert {c.name: c for c in diagnose(client, campaign, made)}["guesses"].verdict == "wrong"


def test_tasks_and_scores_that_are_missing_double_or_foreign(campaign, client, server, pushed):
    first, second, third = list(server.tasks)[:3]
    data = server.tasks[second]["data"]
    client.import_tasks(
        pushed.project, [{"data": data}, {"data": {"image": "x"}}, {"data": {"image": "x", "mcdal_id": "no.png"}}]
    )
    del server.tasks[first]
    server.tasks[third]["predictions"][0]["score"] = 0.99
    text = "\n".join(check.line() for check in diagnose(client, campaign, pushed))
    for words in ("1 open questions have no task", "1 images have several", "'no.png'", "1 tasks without mcdal_id"):
        assert words in text
    assert "1 open tasks have no score of mcdal-r0, 1 have another one" in text


def test_predictions_for_controls_that_do_not_exist(look, server):
    next(iter(server.tasks.values()))["predictions"].append({"model_version": "o", "result": [{"from_name": "nope"}]})
    assert "nope" in look()["predictions"].seen


def test_images_that_are_none(look, server, monkeypatch):
    for task in server.tasks.values():
        task["data"]["image"] = "/api/version"
    assert look()["image"].verdict == "wrong"


@pytest.mark.parametrize(
    "image", [None, 3, "http://10.0.0.1/admin", "/data/upload/../../api/users", "/data/local-files/?d=x"]
)
def test_only_addresses_that_push_gives_are_tried(look, server, image):
    first = next(iter(server.tasks))
    if image is None:
        del server.tasks[first]["data"]["image"]
    else:
        server.tasks[first]["data"]["image"] = image
    for task in list(server.tasks)[1:]:
        del server.tasks[task]
    before = len(server.asked)
    found = look()["image"]
    assert found.verdict == "wrong" and f"task {first} has {image!r}" in found.seen
    assert not [path for path in server.asked[before:] if "/data/" in path or "admin" in path or "users" in path]


def test_an_image_is_read_up_to_a_limit(look, server, monkeypatch):
    monkeypatch.setattr("mcdal.label_studio.doctor_tasks.MOST_BYTES", 4)
    assert look()["image"].seen.endswith("image/png, 4 bytes")


def test_blocked_addresses_are_explained(look, server, client, pushed):
    server.blocks = True
    with pytest.raises(
        CampaignError, match=r"reserved IP address.*ML_BLOCK_LOCAL_IP=false.*SSRF_PROTECTION_ENABLED=false"
    ):
        register(client, pushed, BACKEND)
    found = look(backend=BACKEND)["backend"]
    assert found.verdict == "wrong" and "ML_BLOCK_LOCAL_IP=false" in found.todo


def test_webhooks_that_are_refused_while_the_backend_is_taken(look, server, client, pushed):
    server.deaf = True
    with pytest.raises(
        CampaignError, match=r"is registered as backend without a webhook.*reserved network.*SSRF_PROTECTION_EN"
    ):
        register(client, pushed, BACKEND)
    assert len(server.ml) == 1
    assert "has no webhook" in look()["backend"].seen
    server.ml.clear()
    found = look(backend=BACKEND)["backend"]
    assert found.verdict == "look" and "without a webhook" in found.seen and server.ml == {}


def test_a_backend_is_tried_and_taken_away_again(look, server):
    assert look(backend=BACKEND)["backend"].verdict == "look"  # this server makes no webhook with it
    assert server.ml == {} and server.hooks == {}


def test_trying_a_backend_takes_away_nothing_that_was_there(look, server, client, pushed):
    client.make_webhook({"url": f"{BACKEND}/webhook", "project": pushed.project, "headers": {"X": "own"}})
    look(backend=BACKEND)
    assert server.ml == {} and [hook["headers"] for hook in server.hooks.values()] == [{"X": "own"}]


def test_a_changed_password_is_passed_on(server, client, pushed):
    register(client, pushed, BACKEND, Login("studio", "old"))
    before = len(server.asked)
    register(client, pushed, BACKEND, Login("studio", "old"))
    assert not [path for path in server.asked[before:] if not path.startswith("GET")]
    new = Login("studio", "new")
    register(client, pushed, BACKEND, new)
    assert [backend["basic_auth_pass"] for backend in server.ml.values()] == ["new"]
    assert [hook["headers"] for hook in server.hooks.values()] == [{"Authorization": new.header}]


def test_a_backend_that_is_away_or_has_no_webhook(look, server, client, pushed):
    register(client, pushed, BACKEND)
    server.hooks.clear()
    assert "no webhook" in look()["backend"].seen
    register(client, pushed, BACKEND)
    register(client, pushed, BACKEND + "/")
    assert len(server.ml) == len(server.hooks) == 1
    next(iter(server.ml.values())).update(state="DI", readable_state="Disconnected")
    assert look()["backend"].verdict == "wrong"


def test_a_server_or_token_that_fails_ends_the_look(client, server, campaign, pushed):
    (token,) = [c for c in diagnose(server.client("x" * 40), campaign, pushed) if c.verdict == "wrong"]
    assert "refuses the token" in token.seen
    server.down = True
    assert [c.name for c in diagnose(client, campaign, pushed)] == ["server"]


def test_addresses():
    private = ["http://127.0.0.1:1", "http://10.0.0.3", "http://[::1]:9", "http://localhost:9", "http://box.local"]
    assert (
        all(map(is_private, private))
        and not is_private("https://label.example.org")
        and not is_private("http://8.8.8.8")
    )
