"""Server and trainer are killed at any moment while people work: what was acknowledged is there, once."""

import random
import subprocess
import sys
import threading
import time
from collections import Counter

from sqlalchemy import select

from mcdal.campaign.definition import opened
from mcdal.campaign_tables import answers, questions
from mcdal.store import Store
from tests.campaign.annotators import Annotator, Server, everybody_is_done
from tests.campaign.conftest import begin

KILLS = 6
NAMES = ("Ann", "Bob", "Cy", "Di")


def link_for(server, number):
    """The first person has the link that the server printed, others are invited."""
    if number == 0:
        return server.link
    command = [sys.executable, "-m", "mcdal", "campaign", "invite", str(server.folder), "--url", server.url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def kill_now_and_then(server):
    draw = random.Random(0)
    for kill in range(KILLS):
        time.sleep(draw.uniform(0.3, 2.5))
        if kill % 2:
            subprocess.run(["pkill", "-9", "-f", f"campaign train {server.folder}"], check=False)
        server.kill()
        server.start()


def test_nothing_acknowledged_is_lost_or_doubled(photos, tmp_path):
    root, truth = photos
    folder = tmp_path / "campaign"
    begin(folder, root)
    server = Server(folder)
    server.start()
    try:
        team = [Annotator(server, link_for(server, i), name, truth, 10, 0.05, 0.1, i) for i, name in enumerate(NAMES)]
        work_under(team, lambda: kill_now_and_then(server))
    finally:
        server.stop()
    everything_is_there_once(folder, team)


def work_under(team, kill):
    """Everybody works to the end of the campaign, while `kill` does its worst."""
    over = threading.Event()
    for person in team:
        person.enter()
    threads = [threading.Thread(target=person.work, args=(over.is_set,)) for person in team]
    try:
        for thread in threads:
            thread.start()
        kill()
        for thread in threads:
            thread.join(180)
            assert not thread.is_alive(), "the campaign does not come to its end"
    finally:
        over.set()


def everything_is_there_once(folder, team):
    with opened(folder) as campaign:
        with campaign.database.read() as connection:
            kept = connection.execute(
                select(answers.c.key, answers.c.sample_id, answers.c.verdict, answers.c.value)
            ).all()
            asked = connection.execute(select(questions)).all()
        everybody_is_done(campaign, 40)
        assert campaign.ledger.progress(arms=("audit",)).closed == 15
    by_key = {key: tuple(rest) for key, *rest in kept}
    acknowledged = {key: said for person in team for key, said in person.acknowledged.items()}
    assert len(by_key) == len(kept)
    assert {key: by_key[key] for key in acknowledged} == acknowledged
    assert set(by_key) - set(acknowledged) == set()  # they ended in peace: every answer was acknowledged in the end
    assert Counter(q.arm for q in asked)["control"] == 4
    store = Store(folder, create=False)
    (record,) = store.runs()
    labels = store.labels(record.run_id)
    store.close()
    closed = {q.sample_id: q.value for q in asked if q.verdict == "label" and q.arm != "audit"}
    assert labels == closed
    assert not {q.sample_id for q in asked if q.arm == "audit"} & set(labels)
    assert all(person.refused == [] for person in team)
