"""The page over HTTP: who may come in, what is given, and what is turned away."""

import io
import itertools
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from mcdal.campaign.definition import opened
from mcdal.campaign.door import SESSION, Door
from mcdal.campaign.ledger import Question
from mcdal.campaign.showing import Pictures
from mcdal.campaign.web import HEADERS, MOST_BYTES, Beside, make_app
from mcdal.errors import CampaignError
from tests.campaign.conftest import begin

HOSTILE = "a/<img src=x onerror=alert(1)> \"'&.png"


@pytest.fixture
def campaign(photos, tmp_path):
    root, _ = photos
    begin(tmp_path / "c", root)
    with opened(tmp_path / "c") as found:
        yield found


@pytest.fixture
def app(campaign):
    return make_app(campaign, Beside(), ["testserver"])


def came_in(app, campaign, name="Ann"):
    client = TestClient(app)
    token = Door(campaign.ledger, campaign.secret).invite()
    assert client.post(f"/enter/{token}", data={"name": name}).status_code == 200  # sent on to the page
    client.headers["X-CSRF"] = client.get("/api/state").json()["csrf"]
    return client


def ask(campaign, ids, **more):
    campaign.ledger.ask([Question(id, 0, i, "strategy", **more) for i, id in enumerate(ids)])


def key():
    return str(uuid.uuid4())


def said(id, value=1, **more):
    return {"key": key(), "id": id, "verdict": "label", "value": value, "seconds": 1.5, **more}


def test_nothing_is_given_to_whoever_has_not_come_in(app, campaign):
    ask(campaign, ["a/000.png"])
    client = TestClient(app)
    assert client.get("/").status_code == 401
    for path in ("/api/state", "/image/x", "/thumb/x"):
        assert client.get(path).status_code == 401
    for path in ("/api/next", "/api/answers", "/api/undo", "/sign-out"):
        assert client.post(path, json={}).status_code == 401


def test_images_answers_and_undo(app, campaign):
    ask(campaign, ["a/000.png", "b/001.png"], why=("because",))
    client = came_in(app, campaign)
    given = client.post("/api/next", json={"count": 1}).json()
    (item,) = given["items"]
    assert (item["id"], item["width"], item["why"], item["given"]) == ("a/000.png", 8, ["because"], None)
    shown = client.get(item["image"])
    assert shown.headers["content-type"] == "image/png" and "immutable" in shown.headers["cache-control"]
    answer = said("a/000.png", 3)
    for status in ("recorded", "repeated"):
        (result,) = client.post("/api/answers", json={"answers": [answer]}).json()["results"]
        assert (result["key"], result["status"]) == (answer["key"], status)
    undone = client.post("/api/undo", json={"key": key(), "of": answer["key"]}).json()
    assert undone["status"] == "recorded" and undone["item"]["given"] == {"verdict": "label", "value": 3}
    state = client.get("/api/state").json()
    assert state["person"] == {"name": "Ann", "labels": 0} and state["round"] == {"number": 0, "done": 0, "total": 2}


def test_a_guess_is_shown_only_where_the_campaign_allows_it(app, campaign, photos, tmp_path):
    ask(campaign, ["a/000.png"], guess=4, confidence=0.75)
    client = came_in(app, campaign)
    (item,) = client.post("/api/next", json={"count": 1, "grid": True}).json()["items"]
    assert item["guess"] == {"class": 4, "confidence": 0.75}
    begin(tmp_path / "shy", photos[0], guesses=False)
    with opened(tmp_path / "shy") as shy:
        ask(shy, ["a/000.png"], guess=4, confidence=0.75)
        client = came_in(make_app(shy, Beside(), ["testserver"]), shy)
        assert client.post("/api/next", json={"count": 1, "grid": True}).json()["items"] == []
        assert client.post("/api/next", json={"count": 1}).json()["items"][0]["guess"] is None


def test_images_that_cannot_be_seen_are_passed_over_and_nothing_is_withdrawn_for_it(app, campaign):
    ask(campaign, ["gone.png", "a/000.png", "gone2.png", "b/001.png"])
    client = came_in(app, campaign)
    items = client.post("/api/next", json={"count": 2}).json()["items"]
    assert {item["id"] for item in items} == {"a/000.png", "b/001.png"}
    assert campaign.ledger.outcomes() == []
    missing = client.post("/api/next", json={"count": 2, "held": ["a/000.png", "b/001.png"]})
    assert missing.status_code == 503 and "is the folder" in missing.json()["message"]


def test_nothing_tells_which_images_are_of_the_audit(app, campaign):
    """Nor do the numbers on the page move otherwise when one of them is answered."""
    campaign.ledger.ask([Question("a/000.png", 0, 0, "audit"), Question("b/001.png", 0, 1, "start")])
    client = came_in(app, campaign)
    audit, other = client.post("/api/next", json={"count": 2}).json()["items"]
    assert {k: v for k, v in audit.items() if k not in ("id", "image", "thumb")} == {
        k: v for k, v in other.items() if k not in ("id", "image", "thumb")
    }
    states = [client.get("/api/state").json()]
    for item in (audit, other):
        states.append(client.post("/api/answers", json={"answers": [said(item["id"])]}).json()["state"])
    steps = [
        [(b[k][n] - a[k][n]) for k, n in (("round", "done"), ("budget", "labels"), ("person", "labels"))]
        for a, b in itertools.pairwise(states)
    ]
    assert steps[0] == steps[1] == [1, 0, 1]


# Who comes in


def test_an_invitation_is_for_so_many_and_not_used_up_by_looking(app, campaign):
    token = Door(campaign.ledger, campaign.secret).invite(uses=2)
    client = TestClient(app)
    for _ in range(5):
        assert client.get(f"/enter/{token}").status_code == 200
    for name in ("Ann", "Bob"):
        assert TestClient(app).post(f"/enter/{token}", data={"name": name}, follow_redirects=False).status_code == 303
    refused = TestClient(app).post(f"/enter/{token}", data={"name": "Cy"})
    assert refused.status_code == 409 and "used already" in refused.text


def test_an_invitation_expires_and_so_does_a_session(campaign):
    ledger = campaign.ledger
    door = Door(ledger, campaign.secret)
    token = door.invite(days=1.0)
    now = ledger.now()
    ledger.now = lambda: now + timedelta(days=1, seconds=1)
    with pytest.raises(CampaignError, match="expired"):
        door.enter(token, "Ann")
    assert timedelta(days=30) == SESSION


@pytest.mark.parametrize(
    "change",
    # Not the last character: some of its bits are no part of the signature.
    [lambda t: t[:-5] + ("A" if t[-5] != "A" else "B") + t[-4:], lambda t: t[1:], lambda t: "x", lambda t: "." * 40],
)
def test_a_token_that_was_guessed_or_changed_opens_nothing(app, campaign, change):
    door = Door(campaign.ledger, campaign.secret)
    token = change(door.invite())
    assert TestClient(app).get(f"/enter/{token}").status_code in (404, 410)
    assert TestClient(app).post(f"/enter/{token}", data={"name": "Eve"}).status_code in (404, 409)
    person = door.enter(door.invite(), "Ann")
    client = TestClient(app)
    client.cookies.set(f"mcdal_{campaign.identity}", change(door.session(person)))
    assert client.get("/api/state").status_code == 401


def test_words_signed_for_one_use_serve_no_other(app, campaign):
    door = Door(campaign.ledger, campaign.secret)
    token = door.invite(uses=9)
    person = door.enter(token, "Ann")
    for cookie in (token, door.csrf(door.session(person))):
        client = TestClient(app)
        client.cookies.set(f"mcdal_{campaign.identity}", cookie)
        assert client.get("/api/state").status_code == 401
    assert TestClient(app).get(f"/enter/{door.session(person)}").status_code == 410


def test_who_is_removed_is_out_at_once_and_what_they_said_stays(app, campaign):
    ask(campaign, ["a/000.png"])
    client = came_in(app, campaign)
    client.post("/api/answers", json={"answers": [said("a/000.png")]})
    door = Door(campaign.ledger, campaign.secret)
    door.remove(door.named("Ann"))
    assert client.get("/api/state").status_code == 401
    assert campaign.ledger.outcomes()[0].by == ("Ann",)


def test_names_are_one_line_not_taken_and_not_markup(app, campaign):
    door = Door(campaign.ledger, campaign.secret)
    person = door.enter(door.invite(), "  Ann\n\x00 <b>x</b> ")
    assert person.name == "Ann <b>x</b>"
    for name, words in ((person.name, "is taken"), ("", "1 to 60"), ("x" * 61, "1 to 60")):
        with pytest.raises(CampaignError, match=words):
            door.enter(door.invite(), name)
    page = TestClient(app).get(f"/enter/{door.invite(person=person)}").text
    assert "Ann &lt;b&gt;x&lt;/b&gt;" in page and "<b>x" not in page


# What is turned away


def test_a_page_elsewhere_can_neither_write_nor_ask_by_another_name(app, campaign):
    ask(campaign, ["a/000.png"])
    client = came_in(app, campaign)
    for token in ("", "x", Door(campaign.ledger, campaign.secret).csrf("another session")):
        refused = client.post("/api/answers", json={"answers": [said("a/000.png")]}, headers={"X-CSRF": token})
        assert (refused.status_code, refused.json()["error"]) == (403, "csrf")
    assert client.get("/api/state", headers={"Host": "evil.example"}).status_code == 400
    assert campaign.ledger.progress().closed == 0
    cookie = TestClient(app).post(
        f"/enter/{Door(campaign.ledger, campaign.secret).invite()}", data={"name": "Bob"}, follow_redirects=False
    ).headers["set-cookie"]  # fmt: skip
    elsewhere = TestClient(app).post(
        f"/enter/{Door(campaign.ledger, campaign.secret).invite()}", data={"name": "Cy"}, headers={"Origin": "http://evil.example"}
    )  # fmt: skip
    assert elsewhere.status_code == 403
    many = {"name": "Cy", **{str(i): "x" for i in range(9)}}
    assert (
        TestClient(app).post(f"/enter/{Door(campaign.ledger, campaign.secret).invite()}", data=many).status_code == 400
    )
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie


@pytest.mark.parametrize(
    "content",
    [
        {"answers": [said("a/000.png", verdict="undo")]},
        {"answers": [said("a/000.png", value="1")]},
        {"answers": [said("a/000.png", value=True)]},
        {"answers": [said("a/000.png", key="short")]},
        {"answers": [said("x" * 5000)]},
        {"answers": [said("a/000.png", seconds=-1)]},
        {"answers": [said("a/000.png", admin=True)]},
        {"answers": [said("a/000.png")] * 201},
        {"answers": "a"},
        [],
    ],
)
def test_what_is_not_an_answer_is_refused_whole(app, campaign, content):
    ask(campaign, ["a/000.png"])
    client = came_in(app, campaign)
    refused = client.post("/api/answers", json=content)
    assert refused.status_code == 400 and refused.json()["error"] == "bad_request"
    assert campaign.ledger.progress().closed == 0


def test_too_much_is_refused_before_it_is_read(app, campaign):
    client = came_in(app, campaign)
    assert client.post("/api/answers", content=b"x" * (MOST_BYTES + 1)).status_code == 413
    chunked = client.post("/api/answers", content=(b"x" for _ in range(3)))
    assert chunked.status_code == 413


def test_what_a_database_cannot_hold_is_turned_away(app, campaign):
    ask(campaign, ["a/000.png"])
    client = came_in(app, campaign)
    for answer in (said("a/000.png", key="12345678\0"), said("a/000.png\0")):
        assert client.post("/api/answers", json={"answers": [answer]}).status_code == 400
    assert client.post("/api/next", json={"count": 1, "held": ["\0"]}).status_code == 400
    assert client.post("/api/undo", json={"key": "12345678", "of": "12345678\0"}).status_code == 400
    assert campaign.ledger.progress().closed == 0


def test_no_path_leads_out_of_the_folder(app, campaign, photos, tmp_path):
    root, _ = photos
    secret = tmp_path / "secret.png"
    Image.new("L", (4, 4)).save(secret)
    link = root / "a" / "out.png"
    link.symlink_to(secret)
    try:
        ids = ["../secret.png", str(secret), "a/../../secret.png", "a/out.png", "a"]
        ids += [] if campaign.database.shared else ["a/\x00.png"]  # PostgreSQL does not even hold it
        ask(campaign, ids)
        client = came_in(app, campaign)
        assert client.post("/api/next", json={"count": 9}).status_code == 503
        for path in (
            "/image/..%2Fsecret.png",
            "/image/a%2F000.png",
            "/static/..%2Fweb.py",
            "/static/label.html",
            "/static/x.css",
        ):
            assert client.get(path).status_code == 404, path
    finally:
        link.unlink()


def test_hostile_names_are_data(app, campaign, photos):
    root, _ = photos
    Image.new("L", (4, 4)).save(root / HOSTILE)
    try:
        campaign.ledger.add_classes(["<script>alert(1)</script>\n\"'"])
        ask(campaign, [HOSTILE])
        client = came_in(app, campaign)
        (item,) = client.post("/api/next", json={"count": 1}).json()["items"]
        assert item["id"] == HOSTILE and client.get(item["thumb"]).status_code == 200
        state = client.get("/api/state")
        assert (
            state.headers["content-type"] == "application/json"
            and "<script>" in json.loads(state.text)["classes"][-1]["name"]
        )
    finally:
        (root / HOSTILE).unlink()


def test_every_answer_has_the_headers_that_protect(app, campaign):
    client = came_in(app, campaign)
    for path in ("/", "/api/state", "/image/x", "/nowhere", "/static/label.js"):
        headers = client.get(path).headers
        for name, value in HEADERS.items():
            assert headers[name] == value, (path, name)
    assert "unsafe-inline" not in HEADERS["Content-Security-Policy"]


def test_bombs_and_broken_files_are_not_decoded(app, campaign, photos, monkeypatch):
    root, _ = photos
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(root / "bomb.png")
    monkeypatch.setattr("mcdal.campaign.showing.MAX_PIXELS", 1000)
    try:
        ask(campaign, ["broken.png", "bomb.png"])
        client = came_in(app, campaign)
        items = client.post("/api/next", json={"count": 2}).json()["items"]
        answers = {item["id"]: client.get(item["image"]) for item in items}
        assert {a.status_code for a in answers.values()} == {404}
        assert "too many to be shown" in answers["bomb.png"].json()["message"]
    finally:
        (root / "broken.png").unlink()
        (root / "bomb.png").unlink()


def test_a_full_disk_takes_no_image_away_and_many_may_ask_for_the_same(app, campaign, photos, monkeypatch):
    root, _ = photos
    Image.fromarray(np.zeros((3000, 1500, 3), np.uint8)).save(root / "large.jpg")
    try:
        pictures = Pictures.of(campaign)
        with ThreadPoolExecutor(4) as threads:
            shown = list(threads.map(lambda _: pictures.show("large.jpg", "thumb").content, range(8)))
        assert len(set(shown)) == 1
        monkeypatch.setattr(
            Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        assert pictures.show("large.jpg", "image").media_type == "image/jpeg"
    finally:
        (root / "large.jpg").unlink()


def test_a_changed_file_has_another_address(app, campaign, photos):
    root, _ = photos
    Image.new("L", (4, 4)).save(root / "new.png")
    try:
        ask(campaign, ["new.png"])
        client = came_in(app, campaign)
        before = client.post("/api/next", json={"count": 1}).json()["items"][0]["image"]
        Image.new("L", (5, 5), 9).save(root / "new.png")
        after = client.post("/api/next", json={"count": 1}).json()["items"][0]["image"]
        assert before != after
    finally:
        (root / "new.png").unlink()


def test_large_and_turned_images_are_made_smaller_once(app, campaign, photos):
    root, _ = photos
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((3000, 1500, 3), np.uint8)).save(root / "large.jpg", exif=exif)
    try:
        ask(campaign, ["large.jpg"])
        client = came_in(app, campaign)
        (item,) = client.post("/api/next", json={"count": 1}).json()["items"]
        assert (item["width"], item["height"]) == (2048, 1024)
        with Image.open(_bytes(client, item["image"])) as image:
            assert image.size == (2048, 1024)
        with Image.open(_bytes(client, item["thumb"])) as image:
            assert image.size == (320, 160)
        assert len(list((campaign.folder / "cache" / "shown").iterdir())) == 2
    finally:
        (root / "large.jpg").unlink()


def _bytes(client, path):
    return io.BytesIO(client.get(path).content)
