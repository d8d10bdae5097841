"""Turns of the loop: what is new is done, problems of the server are outlived, and commands say it in a line."""

import json
from datetime import datetime

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from mcdal.campaign.ledger import Question
from mcdal.campaign.trainer import train
from mcdal.campaign.web import Beside
from mcdal.campaign_tables import people
from mcdal.cli import app
from mcdal.errors import CampaignError
from mcdal.label_studio.backend import Wish
from mcdal.label_studio.client import Client
from mcdal.label_studio.connection import FILE_NAME, TOKEN
from mcdal.label_studio.push import push
from mcdal.label_studio.questions import asked
from mcdal.label_studio.serve import Between
from mcdal.label_studio.sync import Puller, Pusher, earlier, once, sync
from tests.campaign.conftest import join
from tests.label_studio.fake import TOKEN as FAKE_TOKEN
from tests.label_studio.fake import URL


@pytest.fixture
def both(campaign, client, connection):
    return Puller(campaign, client, connection), Pusher(campaign, client, connection)


def test_one_turn_pulls_trains_and_pushes_the_next_round(campaign, client, connection, server, both, photos):
    said = []
    assert sync(*both, lambda: pytest.fail("no round is full"), said.append, None) == "asks"
    while True:
        given = [(user, server.next(connection.project, user)) for user in (1, 2)]
        for user, task in given:
            if task is not None:
                server.annotate(task["id"], user, str(photos[1][task["data"]["mcdal_id"]]))
        if given == [(1, None), (2, None)]:
            break
    assert sync(*both, lambda: train(campaign.folder, "cpu"), said.append, None) == "asks"
    assert server.projects[connection.project]["model_version"] == "mcdal-r1"
    assert "mcdal-r1: 10 new tasks, 0 were there already" in said[-1]
    first = campaign.ledger.of_round(1)[0].sample_id
    assert server.next(connection.project, 1)["data"]["mcdal_id"] == first


def test_images_that_have_gone_and_people_who_have_left_are_waited_for_no_more(
    campaign, client, connection, server, both, photos
):
    """Ann and Bob differ about an image, and are gone for an hour: nobody else comes."""
    said = []
    campaign.ledger.ask([Question("not/there.png", 0, 99, "start")])
    sync(*both, lambda: pytest.fail("no round is full"), said.append, None)
    assert campaign.ledger.withdrawn() == ["not/there.png"] and len(server.tasks) == 35
    for task in list(server.tasks.values()):
        truth = photos[1][task["data"]["mcdal_id"]]
        server.annotate(task["id"], 1, str(truth))
        if asked(campaign)[task["data"]["mcdal_id"]].wanted == 2:
            server.annotate(task["id"], 2, str((truth + 1) % 10))
    join(campaign, "Cy")  # a third person, who could be asked
    both[0].pull()
    assert campaign.ledger.waits()
    p = people.c
    with campaign.database.write() as connection_:
        connection_.execute(update(people).where(p.name == "Cy").values(joined_at=datetime(2020, 1, 1)))
    trained = []
    assert sync(*both, lambda: trained.append(1), said.append, None) == "full" and trained == [1]
    assert not campaign.ledger.waits()


def test_watching_goes_on_where_the_server_is_away_for_a_while(server, both, monkeypatch):
    said, rests = [], []

    def rest(seconds):
        rests.append(seconds)
        server.down = len(rests) < 3
        if len(rests) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr("mcdal.label_studio.sync.time.sleep", rest)
    server.down = True
    with pytest.raises(KeyboardInterrupt):
        sync(*both, lambda: None, said.append, 7.0)
    assert rests == [7.0] * 5 and len(server.tasks) == 35
    assert sum("waits: " in line for line in said) == 1 and sum("35 new tasks" in line for line in said) == 1


def test_once_it_fails_with_an_error(server, both):
    server.down = True
    with pytest.raises(CampaignError, match="does not answer"):
        sync(*both, lambda: None, print, None)


def test_a_push_is_made_when_something_new_is_asked_and_not_for_answers(campaign, server, connection, both):
    puller, pusher = both
    assert pusher.push().made == 35 and pusher.push() is None
    server.annotate(next(iter(server.tasks)), 1, "3")
    puller.pull()
    assert pusher.push() is None
    campaign.ledger.ask([Question("new.png", 1, 0, "control")])
    assert pusher.push().made == 1
    campaign.ledger.add_classes(["eleven"])
    assert pusher.push().classes == ["eleven"]


def test_between_the_backend_and_the_server(campaign, client, server, connection, both):
    """Webhooks say which tasks to look at; a server that is away is asked again later, and nothing that was wished is lost."""
    said = []
    between = Between(*both, Beside(), said.append, every=3600.0)
    between.turn([], said.append)
    assert "35 new tasks" in said[-1]
    first, second = list(server.tasks)[:2]
    server.annotate(first, 1, "3")
    server.annotate(second, 1, "3")
    before = len(server.asked)
    between.turn([Wish((first,))], said.append)
    assert "1 annotations: 1 new" in said[-1] and "GET /api/tasks" not in server.asked[before:]
    between.turn([Wish()], said.append)
    assert "1 new" in said[-1]
    between.turn([], said.append)
    assert server.asked[-1] != "GET /api/tasks/1"


def test_wishes_that_a_server_that_is_away_does_not_hear_are_made_up_for(
    campaign, server, connection, both, monkeypatch
):
    said = []
    between = Between(*both, Beside(), said.append, every=3600.0)
    between.turn([], said.append)
    task = next(iter(server.tasks))
    server.annotate(task, 1, "3")
    turns = []

    def wishes(self):
        turns.append(1)
        server.down = len(turns) < 3
        self._not_before = 0.0
        if len(turns) == 4:
            self.stop()
        return [Wish((task,))] if len(turns) == 1 else []

    monkeypatch.setattr(Between, "_wishes", wishes)
    between.watch()
    assert sum("does not answer" in line for line in said) == 2 and "1 annotations: 1 new" in "\n".join(said)


def test_many_wishes_are_one_look(campaign, server, connection, both):
    between = Between(*both, Beside(), print, every=3600.0)
    between.turn([], print)
    before = len(server.asked)
    between.turn([Wish((number,)) for number in range(1000, 1051)], print)
    assert server.asked[before:] == ["GET /api/projects/1", "GET /api/tasks"]


def test_a_push_is_a_look_at_everything_and_no_disagreement_is_a_push(campaign, server, connection, both):
    puller, pusher = both
    done = pusher.push()
    puller.saw(done.pulled)
    twice = next(q.sample_id for q in asked(campaign).values() if q.wanted == 2)
    join(campaign, "Cy")
    for user in (1, 2):
        server.annotate(server.task_of(twice), user, str(user))
    before = len(server.asked)
    report = puller.pull()
    assert report.annotations == 2 and asked(campaign)[twice].wanted == 3 and pusher.push() is None
    assert server.asked[before:].count("GET /api/tasks") == 1


def test_a_clock_of_the_server_that_was_set_back_is_followed(campaign, server, connection, both):
    puller, pusher = both
    pusher.push()
    puller._newest, puller._next_whole = "2030-01-01T00:00:00Z", 0.0
    puller.pull()
    server.annotate(next(iter(server.tasks)), 1, "3")
    assert puller.pull().kinds["new"] == 1


def test_times_and_words_that_were_said():
    assert earlier("2026-11-26T14:10:50.387126Z") == "2026-11-26T14:09:50.387126Z"
    said = []
    say = once(said.append)
    for text in "aabba":
        say(text)
    assert said == ["a", "b", "a"]


# The commands, on the same fake server


@pytest.fixture
def run(campaign, server, monkeypatch):
    import httpx

    monkeypatch.delenv(TOKEN, raising=False)
    real = Client.__init__

    def to_fake(self, url, token, transport=None, timeout=5.0):
        real(self, url, token, httpx.MockTransport(server.handle), timeout)

    monkeypatch.setattr(Client, "__init__", to_fake)
    return lambda *words: CliRunner().invoke(app, ["label-studio", *words])


def test_from_the_command_line(run, campaign, server):
    folder = str(campaign.folder)
    ran = run("connect", folder, "--url", URL, "--token", FAKE_TOKEN, "--image-url", "https://img.test/{id}")
    assert ran.exit_code == 0 and ran.output.startswith("http://label.test/projects/1 was made")
    assert "mcdal-r0: 35 new tasks" in run("push", folder).output
    server.annotate(next(iter(server.tasks)), 1, "3")
    assert "1 annotations: 1 new" in run("pull", folder).output
    ran = run("sync", folder)
    assert "1 annotations: nothing new" in ran.output and "people are asked" in ran.output
    ran = run("doctor", folder)
    assert ran.exit_code == 0 and "look  backend" in ran.output
    server.projects[1]["sampling"] = "Sequential sampling"
    ran = run("doctor", folder)
    assert ran.exit_code == 1 and "wrong sampling" in ran.output
    assert run("doctor", "--url", URL, "--token", FAKE_TOKEN).output.count("ok ") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["push"], "is not connected to Label Studio"),
        (["connect", "--url", URL], TOKEN),
        (["connect", "--url", "x", "--token", "t"], "begins with http"),
        (["connect", "--url", URL, "--token", "t", "--image-url", "u", "--local-root", "."], "give one of them"),
        (["connect", "--url", URL, "--token", "t", "--image-url", "u", "--upload"], "give one of them"),
        (["connect", "--url", "http://u:pw@x", "--token", "t"], "without a user"),
        (["doctor", "--url", URL], "give the folder of a campaign, or --url"),
        (["serve", "--user", "x"], "belong together"),
    ],
)
def test_what_cannot_be_is_one_sentence(run, campaign, words, message):
    ran = run(words[0], str(campaign.folder), *words[1:])
    assert isinstance(ran.exception, CampaignError) and message in str(ran.exception)
    assert not (campaign.folder / FILE_NAME).exists()


def test_masks_from_the_command_line(run, client, server, tmp_path):
    from mcdal.label_studio.shapes import masks_interface
    from tests.label_studio.test_masks import box

    number = client.make_project({"title": "scenes", "label_config": masks_interface(["sky"], ["brushlabels"])})["id"]
    (task,) = client.import_tasks(number, [{"data": {"image": "/a.jpg"}}])
    server.annotate(task, 1, result=[box("sky", 0, 0, 50, 50)])
    ran = run("export-masks", "--project", str(number), "--url", URL, "--token", FAKE_TOKEN, "--out", str(tmp_path))
    assert ran.output == "1 masks\n" and (tmp_path / "masks" / "a.png").exists()


def test_the_token_is_not_in_what_is_said(run, campaign, server):
    run("connect", str(campaign.folder), "--url", URL, "--token", "z" * 40)
    ran = run("connect", str(campaign.folder), "--url", URL, "--token", "z" * 40)
    assert "zzz" not in ran.output + str(ran.exception)


def test_a_project_number_that_is_not_ours_is_not_pushed_to(run, campaign, client, connection, server):
    path = campaign.folder / FILE_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "stamp": "1.5"}))
    ran = run("push", str(campaign.folder))
    assert isinstance(ran.exception, CampaignError)
    assert push(campaign, client, connection).made == 35
