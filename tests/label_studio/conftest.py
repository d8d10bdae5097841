"""A campaign whose first round is asked, connected to a fake server."""

import shutil

import pytest

from mcdal.campaign.definition import opened
from mcdal.campaign.trainer import train
from mcdal.label_studio.connect import connect
from tests.campaign.conftest import begin, photos
from tests.label_studio.fake import FakeLabelStudio

__all__ = ["photos"]


@pytest.fixture
def server():
    return FakeLabelStudio()


@pytest.fixture(scope="session")
def asked_once(photos, tmp_path_factory):
    """Round 0 of a small campaign: 35 images, of which one in ten is wanted from two people."""
    folder = tmp_path_factory.mktemp("asked") / "digits"
    begin(folder, photos[0])
    train(folder, "cpu")
    return folder


@pytest.fixture
def campaign(asked_once, tmp_path):
    shutil.copytree(asked_once, tmp_path / "digits", ignore=shutil.ignore_patterns("cache"))
    with opened(tmp_path / "digits") as found:
        yield found


@pytest.fixture
def client(server):
    with server.client() as made:
        yield made


@pytest.fixture
def connection(campaign, client):
    made, _ = connect(campaign, client, None, "url", "https://img.test/{id}", None)
    return made
