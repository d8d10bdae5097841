"""Several servers of one campaign, each with its own folder and connections, on one PostgreSQL database."""

import random
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert, select

from mcdal.address import address_of
from mcdal.campaign.decide import Answer, decide
from mcdal.campaign.definition import opened
from mcdal.campaign.joining import join
from mcdal.campaign.ledger import Given, Ledger, Question
from mcdal.campaign.rows import labeled
from mcdal.campaign.serve import Trainer, only_server
from mcdal.campaign.tell import status
from mcdal.campaign.trainer import train
from mcdal.campaign.web import Beside
from mcdal.campaign_tables import answers, campaigns, people, questions, standing
from mcdal.database import Database
from mcdal.errors import CampaignError, StoreError
from tests.campaign.annotators import Annotator, Server
from tests.campaign.conftest import begin
from tests.campaign.conftest import join as come_in
from tests.campaign.test_kill import everything_is_there_once, link_for, work_under

pytestmark = pytest.mark.postgres
PEOPLE = [f"p{i}" for i in range(8)]


@pytest.fixture
def two(photos, tmp_path):
    """The folder of a campaign, and one that joined it, with images of its own."""
    begin(tmp_path / "one", photos[0])
    images = shutil.copytree(photos[0], tmp_path / "images")
    join(tmp_path / "two", address_of(tmp_path / "one").url, images)
    return tmp_path / "one", tmp_path / "two"


def test_a_folder_that_joined_shows_the_same_campaign(two, photos):
    with opened(two[0]) as one, opened(two[1]) as other:
        assert (one.identity, one.secret, one.run_id) == (other.identity, other.secret, other.run_id)
        assert other.joined and not one.joined and other.campaign.images == two[1].parent / "images"
        train(two[0], "cpu")
        ann = come_in(other, "Ann")
        (question,) = other.ledger.next(ann, 1)
        assert question.sample_id not in [q.sample_id for q in one.ledger.next(come_in(one, "Bob"), 100)]
        other.ledger.answer(ann, [Given("first-key", question.sample_id, "label", 3)])
        assert [(r.sample_id, r.number) for r in labeled(one)] == [(question.sample_id, 3)]
    with pytest.raises(CampaignError, match="train in the folder that it was begun in"):
        train(two[1], "cpu")


def test_what_cannot_join(two, photos, tmp_path):
    url = address_of(two[0]).url
    train(two[0], "cpu")
    (tmp_path / "other images").mkdir()
    for folder, images, words in (
        (tmp_path / "x", tmp_path / "none", "does not exist"),
        (tmp_path / "x", tmp_path / "other images", r"has none of the 35 images that are asked about"),
        (photos[0] / "x", photos[0], "lies within"),
        (two[0], photos[0], "is the folder of a campaign itself"),
    ):
        with pytest.raises(CampaignError, match=words):
            join(folder, url, images)
    assert not (tmp_path / "x").exists()
    with pytest.raises(
        CampaignError, match=r"holds the campaign 'one' already: give another database, or `mcdal campaign join`"
    ):
        begin(tmp_path / "x", photos[0], database=url)
    assert not (tmp_path / "x" / "database.json").exists()


def test_one_trains_and_the_others_wait_for_it(two):
    with opened(two[0]) as one, opened(two[1]) as other:
        with only_server(two[0], True), only_server(two[0], True):  # two may serve
            pass
        shows = Trainer(other, "cpu", Beside(), trains=False)
        shows.look()
        assert shows._process is None and shows.beside.phase == "training"
        with one.database.alone(one.run_id):
            assert status(other)["training"] and status(one)["training"]
            begins = Trainer(one, "cpu", Beside())
            begins.look()
            assert begins._process is None and begins.beside.phase == "training"
            with pytest.raises(StoreError, match="another process is working on"):
                train(two[0], "cpu")
        assert not status(other)["training"]
        train(two[0], "cpu")
        shows.look()
        assert shows.beside.phase == "labeling"


@pytest.mark.parametrize("seed", range(3))
def test_who_answers_at_once_on_two_servers_leaves_nothing_open_and_nothing_twice(tmp_path, schemas, seed):
    """Each answer reads what others have said, and writes what that adds up to."""
    url = schemas.of(tmp_path)
    databases = [Database(tmp_path / str(i), url=url) for i in range(2)]
    ledgers = [Ledger(database, "cats") for database in databases]
    now = ledgers[0]._time()
    with databases[0].write() as connection:
        connection.execute(insert(campaigns).values(campaign_id="cats", config={}, secret="s", created_at=now))
        rows = [{"campaign_id": "cats", "person_id": p, "name": p, "joined_at": now, "seen_at": now} for p in PEOPLE]
        connection.execute(insert(people), rows)
    ledgers[0].add_classes(["cat", "dog"])
    ledgers[0].ask([Question(f"{i}.jpg", 0, i, "strategy", wanted=2) for i in range(12)])

    def work(i):
        draw, ledger = random.Random(100 * seed + i), ledgers[i % 2]
        for step in range(12):
            for question in ledger.next(PEOPLE[i], 2):
                given = [
                    Given(f"key-{i}-{step}-{question.sample_id}", question.sample_id, "label", int(draw.random() < 0.2))
                ]
                assert ledger.answer(PEOPLE[i], given)[0].status == "recorded"
                again = ledgers[(i + 1) % 2].answer(PEOPLE[i], given)  # it did not hear, and asks the other server
                assert again[0].status == "repeated"

    with ThreadPoolExecutor(len(PEOPLE)) as pool:
        list(pool.map(work, range(len(PEOPLE))))
    with databases[0].read() as connection:
        kept = connection.execute(select(answers)).all()
        asked = connection.execute(select(questions)).all()
        said = connection.execute(select(standing).order_by(standing.c.answer_id)).all()
    for database in databases:
        database.close()
    assert len({row.key for row in kept}) == len(kept) == len({(row.sample_id, row.person_id) for row in kept})
    for question in asked:
        of = [Answer(row.verdict, row.value) for row in said if row.sample_id == question.sample_id]
        decision = decide(of, question.wanted, question.closed_at is not None, len(PEOPLE))
        assert (question.given, question.verdict, question.value) == (len(of), decision.verdict, decision.value)
        assert question.closed_at is not None and len(of) <= question.wanted  # leases kept others away


def test_two_servers_and_the_connections_of_both_are_killed(two, photos, schemas):
    one, two_, draw = Server(two[0]), Server(two[1]), random.Random(1)
    name = address_of(two[0]).url.rpartition("%3D")[2]
    for server in (one, two_):
        server.start()

    def kill():
        for turn in range(8):
            time.sleep(draw.uniform(0.2, 1.5))
            if turn % 2 == 0:  # whatever they are doing
                where = f"application_name = '{name}' AND pid <> pg_backend_pid()"
                schemas.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {where}")
            elif turn == 5:
                subprocess.run(["pkill", "-9", "-f", f"campaign train {two[0]}"], check=False)
            else:
                server = (one, two_)[turn // 2 % 2]
                server.kill()
                server.start()

    try:
        servers = [(one, two_)[i % 2] for i in range(6)]
        team = [
            Annotator(server, link_for(server, i if i < 2 else 2) if i != 1 else two_.link, f"P{i}", photos[1], 10, 0.05, 0.1, i)
            for i, server in enumerate(servers)
        ]  # fmt: skip
        work_under(team, kill)
    finally:
        for server in (one, two_):
            server.stop()
    everything_is_there_once(two[0], team)
    assert not (two[1] / "runs").exists()
