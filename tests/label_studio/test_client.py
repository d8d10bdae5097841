"""What goes wrong between here and a server, in words that say what to do."""

import httpx
import pytest

from mcdal.errors import CampaignError
from mcdal.label_studio.client import Client
from mcdal.label_studio.http import AbsentError
from tests.label_studio.fake import URL, FakeLabelStudio


def answering(answer):
    return Client(URL, "t" * 40, httpx.MockTransport(answer))


def raising(error):
    def answer(request):
        raise error

    return answering(answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            httpx.Response(401, json={"detail": "Invalid token."}),
            "GET http://label.test/api/projects/3: .*refuses the token",
        ),
        (httpx.Response(403, json={"detail": "why"}), "that is not allowed: .* Label Studio says: why"),
        (httpx.Response(404, json={}), "was the project or task deleted"),
        (
            httpx.Response(400, json={"validation_errors": {"title": ["At least 3 characters."]}}),
            "400: title: At least 3 char",
        ),
        (httpx.Response(500, text="<html>"), "answers 500: no reason given"),
        (httpx.Response(502, text="bad\ngateway"), "answers 502: bad gateway"),
        (httpx.Response(200, text="<html>a router's page"), "something else than JSON"),
        (httpx.Response(302, headers={"location": "/user/login"}), "answers 302, it is at /user/login"),
        (httpx.Response(200, json=[1]), "otherwise than Label Studio"),
    ],
)
def test_answers_that_are_no_use(answer, words):
    with pytest.raises(CampaignError, match=words):
        answering(lambda _: answer).project(3)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ReadTimeout("slow"), "no answer within 120 s.*It may do yet what it was asked"),
        (httpx.ConnectError("[Errno 111] Connection refused"), "does not answer .*refused.*is it running"),
        (httpx.RemoteProtocolError("cut off"), "does not answer"),
    ],
)
def test_no_answer(error, words):
    with pytest.raises(CampaignError, match=words):
        raising(error).project(3)


def test_an_address_without_a_scheme():
    with pytest.raises(CampaignError, match=r"begins with http:// or https://"):
        Client("localhost:8080", "t")


@pytest.mark.parametrize(
    "url", ["http://ann:secret@label.test", "https://secret@label.test/x", "ann:secret@label.test"]
)
def test_no_password_is_taken_in_an_address_or_shown(url):
    with pytest.raises(CampaignError, match="without a user and a password") as error:
        Client(url, "t")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "ftp://label.test", "http://label.test:port"])
def test_addresses_that_are_none(url):
    with pytest.raises(CampaignError, match="--url"):
        Client(url, "t")


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(200, json={}), httpx.Response(200, json=[]), httpx.Response(200, text="<html>")],
)
def test_a_server_that_changes_no_tokens(answer):
    with pytest.raises(CampaignError, match="gives no token"):
        Client(URL, "a.personal.token", httpx.MockTransport(lambda _: answer)).whoami()


def test_a_server_that_is_away_when_a_token_is_changed():
    server = FakeLabelStudio(down=True)
    with pytest.raises(CampaignError, match="does not answer"):
        server.client("a.personal.token").whoami()


def test_a_personal_access_token_is_changed_for_one_that_opens_and_changed_again_when_it_runs_out():
    server = FakeLabelStudio()
    client = server.client("a.personal.token")
    assert client.whoami()["id"] == 1 and client.whoami()["id"] == 1
    assert server.asked.count("POST /api/token/refresh/") == 1
    client.http._access = "run-out"
    assert client.whoami()["id"] == 1
    with pytest.raises(CampaignError, match="refuses the personal access token"):
        server.client("a.wrong.token").whoami()


@pytest.mark.parametrize(
    "address", ["https://elsewhere.test/a.png", "//elsewhere.test/a.png", f"{URL}.evil.test/a.png"]
)
def test_the_token_is_shown_to_label_studio_alone(address):
    asked = []
    client = answering(
        lambda request: (asked.append(request), httpx.Response(200, headers={"content-type": "image/png"}))[1]
    )
    client.size(f"{URL}/data/a.png", 9)
    client.size("/data/a.png", 9)
    assert all("authorization" in request.headers for request in asked)
    client.size(address, 9)
    assert asked[-1].url.host == URL.removeprefix("http://") or "authorization" not in asked[-1].headers
    assert len(asked) == 3


def test_what_is_not_there_can_be_told_from_what_went_wrong():
    server = FakeLabelStudio()
    assert server.client().task(5) is None
    with pytest.raises(AbsentError):
        next(server.client().tasks(5))


@pytest.fixture
def many():
    """Server, client, project and an iterator over its 230 tasks, of which a page was read."""
    server = FakeLabelStudio()
    client = server.client()
    project = client.make_project({"title": "many"})["id"]
    client.import_tasks(project, [{"data": {"mcdal_id": str(i)}} for i in range(230)])
    return server, client, project, client.tasks(project)


def test_pages_are_turned_to_the_end(many):
    assert [task["data"]["mcdal_id"] for task in many[3]] == [str(i) for i in range(230)]


def test_no_task_is_passed_over_where_others_are_deleted_meanwhile(many):
    _, client, project, pages = many
    first = [next(pages) for _ in range(100)]
    client.delete_tasks(project, [task["id"] for task in first[:50]])  # the others move to pages that were turned
    assert [task["data"]["mcdal_id"] for task in pages] == [*map(str, range(150, 230)), *map(str, range(100, 150))]


def test_no_task_comes_twice_where_others_come_before_it(many):
    server, _, _, pages = many
    first = [next(pages) for _ in range(100)]
    new = {**first[0], "id": -1}
    server.tasks = {-1: new, **server.tasks}
    numbers = [task["id"] for task in (*first, *pages)]
    assert len(numbers) == len(set(numbers)) == 230


def test_pages_that_are_not_there_any_more(many):
    server, client, project, pages = many
    for _ in range(100):
        next(pages)
    client.delete_tasks(project, list(server.tasks)[100:])
    assert list(pages) == []


def test_a_list_that_never_stands_still_is_given_up():
    totals = iter(range(1000, 0, -1))

    def answer(_):
        total = next(totals)
        return httpx.Response(200, json={"total": total, "tasks": [{"id": total}]})

    with pytest.raises(CampaignError, match="deleted while they are listed"):
        list(answering(answer).tasks(3))


def test_without_httpx_the_extra_is_named(monkeypatch):
    import builtins

    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name == "httpx":
            raise ModuleNotFoundError(name="httpx")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(CampaignError, match=r"pip install 'mcdal\[label-studio\]'"):
        Client(URL, "t")
