"""A campaign gets one project, whichever way; what it is connected to is kept where only its owner reads it."""

import json
import stat

import httpx
import pytest

from mcdal.errors import CampaignError
from mcdal.label_studio.client import Client
from mcdal.label_studio.connect import connect
from mcdal.label_studio.connection import FILE_NAME, TOKEN, read_connection, token_of
from mcdal.label_studio.push import push
from mcdal.label_studio.shapes import CANNOT_TELL, choices_interface
from tests.campaign.conftest import DIGITS
from tests.label_studio.fake import TOKEN as TOKEN_OF_FAKE


def test_connecting_again_finds_what_was_made(campaign, client, server):
    first, did = connect(campaign, client, None, "upload", "", "secret")
    assert "was made" in did
    again, did = connect(campaign, client, None, "upload", "", None)
    assert did == "was connected already" and again == first and len(server.projects) == 1
    project = server.projects[first.project]
    assert project["sampling"] == "Uncertainty sampling" and project["maximum_annotations"] == 1
    assert first.page == f"http://label.test/projects/{first.project}"


def test_the_file_is_read_by_its_owner_alone(campaign, client):
    made, _ = connect(campaign, client, None, "upload", "", "secret")
    path = campaign.folder / FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_connection(campaign.folder) == made and made.token == "secret"
    connect(campaign, client, None, "upload", "", None)
    assert read_connection(campaign.folder).token == "secret"


def test_a_token_of_the_environment_comes_first(monkeypatch):
    monkeypatch.delenv(TOKEN, raising=False)
    assert token_of(" kept ") == "kept"
    monkeypatch.setenv(TOKEN, "of-the-environment")
    assert token_of("kept") == "of-the-environment"
    monkeypatch.setenv(TOKEN, "")
    with pytest.raises(CampaignError, match=TOKEN):
        token_of(None)


@pytest.mark.parametrize("token", ["se cret", "se\ncret", "se\rcret", "secr\u00e9t", "se\0cret", "\u200bsecret"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(monkeypatch, token):
    monkeypatch.delenv(TOKEN, raising=False)
    with pytest.raises(CampaignError, match="copy it anew") as error:
        token_of(token)
    assert "cr" not in str(error.value).replace("characters", "")


def test_a_project_that_fits_is_taken_and_set_up(campaign, client, server):
    classes = DIGITS.split(",")
    number = client.make_project({"title": "own", "label_config": choices_interface(classes[:-1])})["id"]
    made, did = connect(campaign, client, number, "upload", "", None)
    assert made.project == number and "choices added: 9" in did and "sampling set to Uncertainty sampling" in did
    assert connect(campaign, client, number, "upload", "", None)[1] == "was taken"


def test_a_project_that_does_not_fit_is_left_as_it_is(campaign, client, server):
    number = client.make_project({"title": "own", "label_config": choices_interface(["cat", "dog"])})["id"]
    before = dict(server.projects[number])
    with pytest.raises(CampaignError, match="'cat', 'dog', which are no classes of the campaign"):
        connect(campaign, client, number, "upload", "", None)
    assert server.projects[number] == before and not (campaign.folder / FILE_NAME).exists()
    with pytest.raises(CampaignError, match="was the project or task deleted"):
        connect(campaign, client, 999, "upload", "", None)


@pytest.mark.parametrize(("images", "where"), [("url", "https://x.test/"), ("local", "/nowhere/at/all")])
def test_nothing_is_made_where_images_cannot_be_had(campaign, client, server, images, where):
    with pytest.raises(CampaignError, match="--"):
        connect(campaign, client, None, images, where, None)
    assert server.projects == {}


def test_a_project_that_was_deleted_or_replaced_is_not_guessed_at(campaign, client, server):
    made, _ = connect(campaign, client, None, "upload", "", None)
    server.projects[made.project]["created_at"] = "2027-01-01T00:00:00Z"
    with pytest.raises(CampaignError, match="is another one than before"):
        connect(campaign, client, None, "upload", "", None)
    del server.projects[made.project]
    with pytest.raises(CampaignError, match=r"has gone from http://label.test; .* kept"):
        connect(campaign, client, None, "upload", "", None)
    with pytest.raises(CampaignError, match="deleted"):
        push(campaign, client, made)


def test_a_project_is_known_though_the_connecting_was_cut_off(campaign, client, server, monkeypatch, photos):
    def fail(*_):
        raise CampaignError("cut off")

    monkeypatch.setattr("mcdal.label_studio.connect._share", fail)
    where = str(photos[0].parent)
    with pytest.raises(CampaignError, match="cut off"):
        connect(campaign, client, None, "local", where, None)
    monkeypatch.undo()
    made, did = connect(campaign, client, None, None, "", None)
    assert did == "was connected already" and len(server.projects) == 1 and len(server.storages) == 1
    assert (made.images, made.where) == ("local", where)


def test_another_name_of_the_server_makes_no_second_project(campaign, client, server):
    made, _ = connect(campaign, client, None, "upload", "", "secret")
    other = Client("http://localhost:8080", TOKEN_OF_FAKE, httpx.MockTransport(server.handle))
    with pytest.raises(
        CampaignError, match=r"connected to http://label\.test/projects/1: give --url http://label\.test"
    ):
        connect(campaign, other, None, "upload", "", None)
    assert len(server.projects) == 1 and read_connection(campaign.folder) == made
    moved, did = connect(campaign, other, made.project, None, "", None)
    assert did == "was taken" and moved.url == "http://localhost:8080"
    assert moved.token is None  # it is not shown to another server


@pytest.mark.parametrize("images", ["url", "local"])
def test_images_stay_where_they_were_said_to_be(campaign, client, photos, images):
    where = {"url": "https://img.test/{id}", "local": str(photos[0].parent)}[images]
    connect(campaign, client, None, images, where, None)
    again, _ = connect(campaign, client, None, None, "", None)
    assert (again.images, again.where) == (images, where)
    sent, _ = connect(campaign, client, None, "upload", "", None)
    assert (sent.images, sent.where) == ("upload", "")


def test_a_class_that_is_called_as_what_shows_none_is_refused(campaign, client, server):
    campaign.ledger.add_classes([CANNOT_TELL])
    with pytest.raises(CampaignError, match="begin it with another name"):
        connect(campaign, client, None, None, "", None)
    number = client.make_project({"title": "own", "label_config": choices_interface(DIGITS.split(","))})["id"]
    with pytest.raises(CampaignError, match="begin it with another name"):
        connect(campaign, client, number, None, "", None)
    assert len(server.projects) == 1 and not (campaign.folder / FILE_NAME).exists()


@pytest.mark.parametrize("content", ["", "[]", '{"url": 3}', '{"url": "x", "project": 1, "stamp": "s", "more": 1}'])
def test_a_file_that_is_damaged(campaign, content):
    with pytest.raises(CampaignError, match="is not connected"):
        read_connection(campaign.folder)
    (campaign.folder / FILE_NAME).write_text(content)
    with pytest.raises(CampaignError, match="connect again"):
        read_connection(campaign.folder)


def test_no_token_is_written_that_was_not_given(campaign, client):
    connect(campaign, client, None, "upload", "", None)
    assert json.loads((campaign.folder / FILE_NAME).read_text())["token"] is None
