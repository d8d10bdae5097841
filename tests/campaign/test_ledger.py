"""Questions, leases and answers: nothing lost, nothing doubled, whatever is sent twice and whoever comes late."""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select, text

from mcdal.campaign.decide import Answer, decide
from mcdal.campaign.door import Door
from mcdal.campaign.ledger import LEASE, PRESENT, Given, Ledger, Question
from mcdal.campaign_tables import answers, campaigns, people, standing
from mcdal.database import Database
from mcdal.errors import CampaignError, StoreError

NAMES = ("ann", "bob", "cy", "di")


class Clock:
    def __init__(self):
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self):
        return self.at


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(tmp_path, clock):
    database = Database(tmp_path)
    with database.write() as connection:
        connection.execute(insert(campaigns).values(campaign_id="cats", config={}, secret="s", created_at=clock()))
        rows = [
            {"campaign_id": "cats", "person_id": name, "name": name.title(), "joined_at": clock()} for name in NAMES
        ]
        connection.execute(insert(people), rows)
    made = Ledger(database, "cats", clock)
    made.add_classes(["cat", "dog", "other"])
    yield made
    database.close()


def ask(ledger, count, round=0, wanted=1, **more):
    ledger.ask([Question(f"r{round}/{i}.jpg", round, i, "strategy", wanted, **more) for i in range(count)])


def ids(questions):
    return [q.sample_id for q in questions]


def test_everybody_gets_others_in_the_order_of_ranks(ledger):
    ask(ledger, 6)
    assert ids(ledger.next("ann", 2)) == ["r0/0.jpg", "r0/1.jpg"]
    assert ids(ledger.next("bob", 3)) == ["r0/2.jpg", "r0/3.jpg", "r0/4.jpg"]
    assert ids(ledger.next("ann", 5, held=["r0/0.jpg", "r0/1.jpg"])) == ["r0/5.jpg"]
    assert ledger.next("cy", 5) == []
    assert ids(ledger.next("ann", 5)) == ["r0/0.jpg", "r0/1.jpg", "r0/5.jpg"]  # a page that was reloaded


def test_a_lease_runs_out_and_is_renewed_by_holding(ledger, clock):
    ask(ledger, 1)
    ledger.next("ann", 1)
    clock.at += LEASE - timedelta(seconds=1)
    assert ledger.next("bob", 1) == []
    ledger.next("ann", 0, held=["r0/0.jpg"])
    clock.at += LEASE - timedelta(seconds=1)
    assert ledger.next("bob", 1) == []
    clock.at += timedelta(seconds=1)
    assert ids(ledger.next("bob", 1)) == ["r0/0.jpg"]


def test_a_clock_that_jumps_back_does_not_lock_an_image(ledger, clock):
    ask(ledger, 1)
    ledger.next("ann", 1)
    clock.at -= timedelta(days=3)
    assert ids(ledger.next("bob", 1)) == ["r0/0.jpg"]


def test_two_answers_are_wanted_of_some_and_a_third_where_they_differ(ledger):
    for name in NAMES:
        ledger.next(name, 0)
    ask(ledger, 1, wanted=2)
    assert ids(ledger.next("ann", 1)) == ids(ledger.next("bob", 1)) == ["r0/0.jpg"]
    assert ledger.next("cy", 1) == []
    ledger.answer("ann", [Given("k1", "r0/0.jpg", "label", 0)])
    assert ledger.next("ann", 1) == [] and ledger.progress().closed == 0
    ledger.answer("bob", [Given("k2", "r0/0.jpg", "label", 1)])
    assert ids(ledger.next("cy", 1)) == ["r0/0.jpg"]
    ledger.answer("cy", [Given("k3", "r0/0.jpg", "label", 1)])
    (outcome,) = ledger.outcomes()
    assert (outcome.verdict, outcome.value, outcome.by) == ("label", 1, ("Bob", "Cy"))


def test_who_waited_for_others_does_not_take_what_they_were_given(ledger, clock):
    """The time is asked for when it is one's turn: a lease that was given in the meantime is not one of another clock."""
    ask(ledger, 1)
    other = Ledger(Database(ledger.database.path.parent), "cats", clock)
    with ThreadPoolExecutor(1) as pool:
        with ledger.database.write() as connection:
            waiting = pool.submit(other.next, "bob", 1)
            time.sleep(0.2)
            clock.at += timedelta(minutes=2)
            ledger._lease(connection, "ann", ["r0/0.jpg"], ledger._time())
        assert waiting.result() == []
    clock.at -= timedelta(seconds=30)  # of a server whose clock is late
    assert ledger.next("cy", 1) == []
    clock.at -= timedelta(minutes=2)  # a clock that was put back
    assert ids(ledger.next("cy", 1)) == ["r0/0.jpg"]
    other.database.close()


def test_nothing_waits_for_people_who_are_not_there(ledger, clock):
    """Somebody who came in to look, and left."""
    ask(ledger, 2, wanted=2)
    ledger.next("bob", 0)
    ledger.answer("ann", [Given("k1", "r0/0.jpg", "label", 0), Given("k2", "r0/1.jpg", "cannot_tell")])
    ledger.settle()
    assert ledger.progress().closed == 0
    clock.at += PRESENT
    ledger.next("ann", 0)
    ledger.settle()
    assert [(o.verdict, o.value) for o in ledger.outcomes()] == [("label", 0), ("cannot_tell", None)]


def test_nothing_waits_for_people_who_were_removed(ledger):
    ask(ledger, 1, wanted=2)
    ledger.next("bob", 0)
    ledger.answer("ann", [Given("k1", "r0/0.jpg", "label", 0)])
    assert ledger.progress().closed == 0
    door = Door(ledger, "secret")
    door.remove(door.named("Bob"))
    assert ledger.progress().closed == 1


def test_what_is_skipped_goes_to_others_and_comes_back_last(ledger):
    ask(ledger, 3)
    ledger.answer("ann", [Given("k", "r0/0.jpg", "skip")])
    assert ids(ledger.next("bob", 1)) == ["r0/0.jpg"]
    assert ids(ledger.next("ann", 3)) == ["r0/1.jpg", "r0/2.jpg"]
    ledger.answer("bob", [Given("k2", "r0/0.jpg", "skip")])
    assert ids(ledger.next("ann", 3)) == ["r0/1.jpg", "r0/2.jpg", "r0/0.jpg"]
    assert ledger.progress().closed == 0


def test_two_who_cannot_tell_close_an_image_without_a_label(ledger):
    ask(ledger, 1)
    ledger.next("bob", 0)
    ledger.answer("ann", [Given("k1", "r0/0.jpg", "cannot_tell")])
    assert ledger.outcomes() == [] and ids(ledger.next("bob", 1)) == ["r0/0.jpg"]
    ledger.answer("bob", [Given("k2", "r0/0.jpg", "cannot_tell")])
    (outcome,) = ledger.outcomes()
    assert (outcome.verdict, outcome.value) == ("cannot_tell", None)
    assert ledger.progress().labels == 0 and ledger.progress().closed == 1


def test_an_answer_said_twice_counts_once(ledger):
    ask(ledger, 2)
    first = [Given("k1", "r0/0.jpg", "label", 2), Given("k2", "r0/1.jpg", "label", 0)]
    assert [r.status for r in ledger.answer("ann", first)] == ["recorded", "recorded"]
    assert [r.status for r in ledger.answer("ann", first)] == ["repeated", "repeated"]
    assert [r.status for r in ledger.answer("bob", [Given("k1", "r0/1.jpg", "label", 1)])] == ["refused"]
    with ledger.database.read() as connection:
        assert len(connection.execute(select(answers)).all()) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Given("k", "nobody.jpg", "label", 0), "Nobody asked about 'nobody.jpg'"),
        (Given("k", "r0/0.jpg", "label", 3), "There is no class 3"),
        (Given("k", "r0/0.jpg", "label", None), "There is no class None"),
        (Given("k", "r0/0.jpg", "label", -1), "There is no class -1"),
        (Given("k", "r0/0.jpg", "skip", 1), "A class goes with a label"),
        (Given("k", "r0/0.jpg", "undo"), "'undo' is no answer"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_words_and_the_rest_is_kept(ledger, given, words):
    ask(ledger, 2)
    refused, kept = ledger.answer("ann", [given, Given("k9", "r0/1.jpg", "label", 0)])
    assert (refused.status, kept.status) == ("refused", "recorded") and words in refused.message


def test_taking_back_opens_the_image_and_gives_it_to_whoever_took_back(ledger):
    ask(ledger, 2)
    ledger.answer("ann", [Given("k1", "r0/0.jpg", "label", 2)])
    receipt, question = ledger.undo("ann", "u1", "k1")
    assert receipt.status == "recorded" and question.sample_id == "r0/0.jpg"
    assert ledger.progress().closed == 0
    assert ids(ledger.next("bob", 2)) == ["r0/1.jpg"]
    receipt, question = ledger.undo("ann", "u1", "k1")
    assert receipt.status == "repeated" and question.sample_id == "r0/0.jpg"
    assert ledger.undo("ann", "u2", "k1")[0].status == "refused"
    assert ledger.undo("bob", "u3", "k1")[0].status == "refused"
    ledger.answer("ann", [Given("k2", "r0/0.jpg", "label", 0)])
    with ledger.database.read() as connection:
        rows = connection.execute(select(answers.c.verdict, answers.c.value).order_by(answers.c.answer_id)).all()
    assert rows == [("label", 2), ("undo", None), ("label", 0)]


def test_a_label_is_corrected_by_saying_it_again(ledger, clock):
    ask(ledger, 1)
    ledger.answer("ann", [Given("k1", "r0/0.jpg", "label", 2)])
    before = ledger.outcomes()[0]
    clock.at += timedelta(hours=1)
    ledger.answer("ann", [Given("k2", "r0/0.jpg", "label", 1)])
    after = ledger.outcomes()[0]
    assert (before.value, after.value) == (2, 1) and after.at > before.at
    ledger.answer("bob", [Given("k3", "r0/0.jpg", "label", 0)])  # late: one against one changes nothing
    assert ledger.outcomes()[0].value == 1 and ledger.outcomes()[0].at == after.at


def test_the_database_refuses_to_change_what_was_said(ledger):
    ask(ledger, 1)
    ledger.answer("ann", [Given("k1", "r0/0.jpg", "label", 2)])
    for verb in ("UPDATE answers SET value = 0", "DELETE FROM answers"):
        with pytest.raises(StoreError, match="append-only"), ledger.database.write() as connection:
            connection.execute(text(verb))


def test_images_that_have_gone_are_withdrawn_and_what_was_answered_stays(ledger):
    ask(ledger, 2)
    ledger.answer("ann", [Given("k1", "r0/0.jpg", "label", 2)])
    ledger.withdraw(["r0/0.jpg", "r0/1.jpg"])
    assert [(o.sample_id, o.verdict) for o in ledger.outcomes()] == [("r0/0.jpg", "label"), ("r0/1.jpg", "withdrawn")]
    assert ledger.next("bob", 5) == []
    (receipt,) = ledger.answer("bob", [Given("k2", "r0/1.jpg", "label", 0)])
    assert receipt.status == "refused" and "has gone" in receipt.message


def test_a_grid_has_one_guess(ledger):
    ledger.ask([Question(f"{i}.jpg", 0, i, "strategy", guess=i % 2, confidence=0.5) for i in range(6)])
    ledger.ask([Question("audit.jpg", 0, 9, "audit")])
    assert ledger.guesses("ann") == [(0, 3), (1, 3)]
    assert ids(ledger.next("ann", 9, guessed=1)) == ["1.jpg", "3.jpg", "5.jpg"]


def test_classes_are_added_behind_the_others(ledger):
    ledger.add_classes(["bird"])
    assert ledger.classes() == ("cat", "dog", "other", "bird")
    for name, words in (("cat", "there already"), (" ", "empty")):
        with pytest.raises(CampaignError, match=words):
            ledger.add_classes([name])
    ask(ledger, 1)
    assert ledger.answer("ann", [Given("k", "r0/0.jpg", "label", 3)])[0].status == "recorded"


def test_asking_again_changes_nothing(ledger):
    ask(ledger, 2)
    ledger.answer("ann", [Given("k1", "r0/0.jpg", "label", 2)])
    ledger.ask([Question("r0/0.jpg", 4, 0, "control"), Question("new.jpg", 4, 1, "control")])
    assert ledger.progress() == ledger.progress() and ledger.progress().asked == 3
    assert ledger.outcomes()[0].value == 2 and ledger.question("r0/0.jpg").round == 0


@pytest.mark.parametrize("seed", range(5))
def test_whatever_people_do_the_summary_follows_from_their_answers(ledger, clock, seed):
    """Random answers, repeats, undos, skips and late opinions against a naive reading of the append-only rows."""
    draw = random.Random(seed)
    ledger.ask([Question(f"{i}.jpg", 0, i, "strategy", draw.choice([1, 1, 2])) for i in range(8)])
    sent = []
    for step in range(150):
        person, kind = draw.choice(NAMES), draw.random()
        clock.at += timedelta(seconds=draw.choice([1, 5, 400]))
        if kind < 0.5:
            for question in ledger.next(person, draw.randint(1, 2)):
                verdict = draw.choices(["label", "skip", "cannot_tell"], [6, 1, 1])[0]
                given = Given(
                    f"k{step}-{question.sample_id}",
                    question.sample_id,
                    verdict,
                    draw.randrange(3) if verdict == "label" else None,
                )
                sent.append((person, given))
                ledger.answer(person, [given])
        elif kind < 0.65 and sent:
            again = draw.choice(sent)
            assert ledger.answer(again[0], [again[1]])[0].status == "repeated"
        elif kind < 0.8 and sent:
            who, given = draw.choice(sent)
            ledger.undo(who, f"u{step}", given.key)
        else:
            given = Given(f"k{step}", f"{draw.randrange(8)}.jpg", "label", draw.randrange(3))
            sent.append((person, given))
            ledger.answer(person, [given])
    with ledger.database.read() as connection:
        rows = connection.execute(select(answers).order_by(answers.c.answer_id)).all()
        kept = {(r.sample_id, r.person_id): (r.verdict, r.value) for r in connection.execute(select(standing))}
    naive = {}
    for row in rows:
        if row.verdict == "undo":
            del naive[row.sample_id, row.person_id]
        else:
            naive.pop((row.sample_id, row.person_id), None)  # the latest comes last
            naive[row.sample_id, row.person_id] = (row.verdict, row.value)
    assert kept == naive
    assert Counter(r.key for r in rows).most_common(1)[0][1] == 1
    for outcome in ledger.outcomes():
        said = Counter(v for (id, _), v in naive.items() if id == outcome.sample_id and v[0] != "skip")
        if outcome.verdict == "label":
            assert said["label", outcome.value] == max(said.values())
    closed = {o.sample_id for o in ledger.outcomes()}
    for i in range(8):
        said = [Answer(*v) for (id, _), v in naive.items() if id == f"{i}.jpg"]
        question = ledger.question(f"{i}.jpg")
        assert decide(said, question.wanted, f"{i}.jpg" in closed, len(NAMES)).closed == (f"{i}.jpg" in closed)
