"""What annotations say becomes answers, once; what is corrected or deleted there is so here."""

import pytest
from sqlalchemy import event

from mcdal.campaign.door import Door
from mcdal.campaign.ledger import Given
from mcdal.campaign.rows import did, labeled
from mcdal.errors import CampaignError
from mcdal.label_studio.connect import connect
from mcdal.label_studio.pull import pull, pull_tasks
from mcdal.label_studio.push import push
from mcdal.label_studio.questions import asked, stands
from mcdal.label_studio.shapes import CANNOT_TELL
from mcdal.label_studio.sync import Puller
from tests.campaign.conftest import join


@pytest.fixture
def tasks(campaign, client, connection):
    """Numbers of tasks of which one person is asked, by the image."""
    push(campaign, client, connection)
    single = {q.sample_id for q in asked(campaign).values() if q.wanted == 1}
    return [t["id"] for t in client.tasks(connection.project) if t["data"]["mcdal_id"] in single]


def said(campaign, server, task):
    """Verdicts and values that stand for the image of a task, by name."""
    id = server.tasks[task]["data"]["mcdal_id"]
    door = Door(campaign.ledger, campaign.secret)
    found = {p.name: campaign.ledger.said(p.person_id, id) for p in door.people()}
    return {name: (a.verdict, a.value) for name, a in found.items() if a is not None}


def test_answers_come_under_the_names_of_their_users_with_the_time_they_took(
    campaign, client, connection, server, tasks
):
    server.annotate(tasks[0], 1, "3", seconds=3.5)
    server.annotate(tasks[1], 2, "4", seconds=-1)
    report = pull(campaign, client, connection)
    assert (report.kinds["new"], report.told) == (2, {})
    assert said(campaign, server, tasks[0]) == {"Ann": ("label", 3)}
    assert said(campaign, server, tasks[1]) == {"bob@example.org": ("label", 4)}
    assert {p.name: p.seconds for p in did(campaign)} == {"Ann": 3.5, "bob@example.org": None}


def test_pulling_again_changes_nothing(campaign, client, connection, server, tasks):
    for task in tasks[:5]:
        server.annotate(task, 1, "3")
    pull(campaign, client, connection)
    before = stands(campaign)
    for _ in range(2):
        report = pull(campaign, client, connection)
        assert report.changes == 0 and report.lines() == ["5 annotations: nothing new"]
    assert stands(campaign) == before and len(labeled(campaign)) == 5


def test_corrected_deleted_and_made_again(campaign, client, connection, server, tasks):
    number = server.annotate(tasks[0], 1, "3")
    pull(campaign, client, connection)
    server.change(number, "5")
    assert pull(campaign, client, connection).kinds["corrected"] == 1
    assert said(campaign, server, tasks[0]) == {"Ann": ("label", 5)}
    server.change(number, "3")
    pull(campaign, client, connection)
    assert said(campaign, server, tasks[0]) == {"Ann": ("label", 3)}
    server.delete(number)
    assert pull(campaign, client, connection).kinds["deleted"] == 1
    assert said(campaign, server, tasks[0]) == {} and labeled(campaign) == []
    assert pull(campaign, client, connection).changes == 0
    server.annotate(tasks[0], 1, "7")
    assert pull(campaign, client, connection).kinds["new"] == 1
    assert [row.number for row in labeled(campaign)] == [7]


def test_touched_without_being_changed_is_no_new_answer(campaign, client, connection, server, tasks):
    number = server.annotate(tasks[0], 1, "3")
    pull(campaign, client, connection)
    server.change(number, "3")
    assert pull(campaign, client, connection).changes == 0


def test_skipped_and_cannot_tell(campaign, client, connection, server, tasks):
    server.annotate(tasks[0], 1, cancelled=True)
    server.annotate(tasks[1], 1, CANNOT_TELL)
    pull(campaign, client, connection)
    assert said(campaign, server, tasks[0]) == {"Ann": ("skip", None)}
    assert said(campaign, server, tasks[1]) == {"Ann": ("cannot_tell", None)}
    assert asked(campaign)[server.tasks[tasks[0]]["data"]["mcdal_id"]].given == 0


def test_the_newest_of_several_annotations_of_one_person_counts(campaign, client, connection, server, tasks):
    older, newer = server.annotate(tasks[0], 1, "3"), server.annotate(tasks[0], 1, "4")
    report = pull(campaign, client, connection)
    assert said(campaign, server, tasks[0]) == {"Ann": ("label", 4)}
    assert report.told["duplicate"] == [f"annotation {older} of {server.tasks[tasks[0]]['data']['mcdal_id']!r}"]
    server.delete(newer)
    pull(campaign, client, connection)
    assert said(campaign, server, tasks[0]) == {"Ann": ("label", 3)}
    newest = server.annotate(tasks[0], 1, "4")
    pull(campaign, client, connection)
    server.delete(newest)
    pull(campaign, client, connection)
    assert said(campaign, server, tasks[0]) == {"Ann": ("label", 3)}


def test_two_tasks_of_one_image_are_one_image(campaign, client, connection, server, tasks):
    data = server.tasks[tasks[0]]["data"]
    (copy,) = client.import_tasks(connection.project, [{"data": data, "predictions": []}])
    server.annotate(copy, 1, "3")
    server.annotate(tasks[0], 1, "4")
    report = pull(campaign, client, connection)
    assert said(campaign, server, tasks[0]) == {"Ann": ("label", 4)} and report.kinds["duplicate"] == 1
    assert pull_tasks(campaign, client, connection, [copy]).changes == 0  # the other one is newer, though not looked at


@pytest.mark.parametrize(
    ("annotate", "kind"),
    [
        (lambda s, t: s.annotate(t, 1), "partial"),
        (lambda s, t: s.annotate(t, 1, result="nonsense"), "partial"),
        (
            lambda s, t: s.annotate(t, 1, result=[None, {"from_name": "label", "type": "choices", "value": None}]),
            "partial",
        ),
        (
            lambda s, t: s.annotate(
                t, 1, result=[{"from_name": "other", "type": "choices", "value": {"choices": ["3"]}}]
            ),
            "partial",
        ),
        (lambda s, t: s.annotate(t, 1, "3", "4"), "several"),
        (lambda s, t: s.annotate(t, 1, "eleven"), "unknown class"),
    ],
)
def test_what_is_no_answer_is_named_and_closes_nothing(campaign, client, connection, server, tasks, annotate, kind):
    annotate(server, tasks[0])
    report = pull(campaign, client, connection)
    assert report.changes == 0 and list(report.told) == [kind] and len(report.lines()) == 2
    id = server.tasks[tasks[0]]["data"]["mcdal_id"]
    assert repr(id) in report.lines()[1] and not asked(campaign)[id].closed


def test_a_partial_annotation_is_asked_of_somebody_else_and_counts_when_it_is_finished(
    campaign, client, connection, server, tasks
):
    number = server.annotate(tasks[0], 1)
    assert server.tasks[tasks[0]]["is_labeled"]
    pull(campaign, client, connection)
    assert not server.tasks[tasks[0]]["is_labeled"] and server.tasks[tasks[0]]["overlap"] == 2
    value = [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["3"]}}]
    server.change(number, result=value)
    assert pull(campaign, client, connection).kinds["new"] == 1
    server.change(number, result=[])
    assert pull(campaign, client, connection).kinds["deleted"] == 1


def test_a_class_that_is_added_later_brings_what_waited_for_it(campaign, client, connection, server, tasks):
    server.annotate(tasks[0], 1, "eleven")
    pull(campaign, client, connection)
    campaign.ledger.add_classes(["eleven"])
    assert pull(campaign, client, connection).kinds["new"] == 1
    assert said(campaign, server, tasks[0]) == {"Ann": ("label", 10)}


def test_tasks_of_others_are_named_and_left_alone(campaign, client, connection, server, tasks):
    own, other = client.import_tasks(
        connection.project, [{"data": {"image": "x"}}, {"data": {"image": "x", "mcdal_id": "no.png"}}]
    )
    odd = client.import_tasks(connection.project, [{"data": {"image": "x", "mcdal_id": 7}}])[0]
    for task in (own, other, odd):
        server.annotate(task, 1, "3")
    report = pull(campaign, client, connection)
    assert report.told == {"foreign": [f"task {own}", f"task {odd}"], "unknown id": ["'no.png'"]}
    push(campaign, client, connection)
    assert {own, other, odd} <= set(server.tasks)


def test_late_answers_are_kept_and_told(campaign, client, connection, server, tasks):
    server.annotate(tasks[0], 1, "3")
    pull(campaign, client, connection)
    server.annotate(tasks[0], 2, "4")
    report = pull(campaign, client, connection)
    assert (report.kinds["new"], report.kinds["late"]) == (1, 1) and "1 late" in report.lines()[0]
    assert [row.number for row in labeled(campaign)] == [3] and labeled(campaign)[0].answers == 2


def test_an_image_that_has_gone_takes_no_answer_and_nothing_is_lost(campaign, client, connection, server, tasks):
    id = server.tasks[tasks[0]]["data"]["mcdal_id"]
    campaign.ledger.withdraw([id])
    server.annotate(tasks[0], 1, "3")
    report = pull(campaign, client, connection)
    assert report.changes == 0 and "has gone" in report.told["refused"][0]
    campaign.ledger.reopen([id])
    assert pull(campaign, client, connection).kinds["new"] == 1


def test_deleted_tasks_take_no_answers_with_them(campaign, client, connection, server, tasks):
    server.annotate(tasks[0], 1, "3")
    pull(campaign, client, connection)
    client.delete_tasks(connection.project, [tasks[0]])
    report = pull(campaign, client, connection)
    assert report.changes == 0 and len(report.told["gone"]) == 1 and len(labeled(campaign)) == 1


def test_somebody_of_the_same_name_on_the_page_is_another_person(campaign, client, connection, server, tasks):
    ann = join(campaign, "Ann")
    id = server.tasks[tasks[0]]["data"]["mcdal_id"]
    campaign.ledger.answer(ann, [Given("page-answer", id, "label", 1)])
    server.annotate(tasks[0], 1, "3")
    pull(campaign, client, connection)
    assert said(campaign, server, tasks[0]) == {"Ann": ("label", 1), "Ann (Label Studio)": ("label", 3)}


def test_a_user_who_has_left_is_one_person_all_the_same(campaign, client, connection, server, tasks):
    server.annotate(tasks[0], None, "3")
    server.annotate(tasks[1], 99, "3")
    pull(campaign, client, connection)
    assert list(said(campaign, server, tasks[0])) == ["a user who has left Label Studio"]
    assert list(said(campaign, server, tasks[1])) == ["user 99 of Label Studio"]


def test_answers_stay_those_of_a_user_who_was_deleted(campaign, client, connection, server, tasks):
    numbers = [server.annotate(task, 2, "3") for task in tasks[:3]]
    older = server.annotate(tasks[3], 2, "3")
    pull(campaign, client, connection)
    newer = server.annotate(tasks[3], 2, "4")
    pull(campaign, client, connection)
    before = stands(campaign)
    del server.users[2]
    for number in (*numbers, older, newer):  # Label Studio keeps annotations, and forgets who made them
        server.annotations[number]["completed_by"] = None
    report = pull(campaign, client, connection)
    assert report.changes == 0 and stands(campaign) == before and len(labeled(campaign)) == 4
    assert report.told["duplicate"] == [f"annotation {older} of {server.tasks[tasks[3]]['data']['mcdal_id']!r}"]


def test_two_who_have_left_are_two(campaign, client, connection, server, tasks):
    for choice in ("3", "4"):
        server.annotate(tasks[0], None, choice)
    pull(campaign, client, connection)
    assert sorted(said(campaign, server, tasks[0]).values()) == [("label", 3), ("label", 4)]


def test_a_user_whose_address_was_changed_is_the_same_person(campaign, client, connection, server, tasks):
    for task in tasks[:2]:
        server.annotate(task, 1, "3")
    pull(campaign, client, connection)
    before = stands(campaign)
    server.users[1] = {**server.users[1], "email": "ann.smith@example.org"}
    assert pull(campaign, client, connection).changes == 0 and stands(campaign) == before
    server.annotate(tasks[2], 1, "3")
    pull(campaign, client, connection)
    assert [p.name for p in did(campaign)] == ["Ann"]


def test_an_older_annotation_stays_behind_what_its_author_said_since_elsewhere(
    campaign, client, connection, server, tasks
):
    data = [server.tasks[task]["data"] for task in tasks[:2]]
    server.annotate(tasks[0], 1, "3")
    unseen = server.annotate(tasks[1], 1, "3")
    server.annotations[unseen]["task"] = 0  # not pulled yet
    pull(campaign, client, connection)
    other, _ = connect(campaign, client, client.make_project({**server.projects[1]})["id"], None, "", None)
    copies = client.import_tasks(other.project, [{"data": each} for each in data])
    for copy in copies:
        newest = server.annotate(copy, 1, "5")
    assert pull(campaign, client, other).changes == 2
    server.annotations[unseen]["task"] = tasks[1]
    again = pull(campaign, client, connection)
    assert again.changes == 0 and said(campaign, server, tasks[0]) == said(campaign, server, tasks[1]) == {
        "Ann": ("label", 5)
    }
    server.change(unseen, "6")
    assert pull(campaign, client, connection).kinds["corrected"] == 1
    assert said(campaign, server, tasks[1]) == {"Ann": ("label", 6)}
    assert pull(campaign, client, other).changes == 0 and newest


def test_what_somebody_says_later_on_the_page_stays(campaign, client, connection, server, tasks):
    """A link of `mcdal campaign invite --person` lets a user of Label Studio in on the page as well."""
    number = server.annotate(tasks[0], 1, "3")
    pull(campaign, client, connection)
    (ann,) = Door(campaign.ledger, campaign.secret).people()
    campaign.ledger.answer(ann.person_id, [Given("page", server.tasks[tasks[0]]["data"]["mcdal_id"], "label", 5)])
    assert pull(campaign, client, connection).changes == 0
    assert said(campaign, server, tasks[0]) == {"Ann": ("label", 5)}
    server.change(number, "6")
    pull(campaign, client, connection)
    assert said(campaign, server, tasks[0]) == {"Ann": ("label", 6)}


@pytest.mark.parametrize("key", ["ls/{stamp}/{task}/{next}/2027-01-01", "ls/{stamp}/x/y/z", "ls/{stamp}/1", "ls/"])
def test_keys_that_others_make_up_are_not_taken_for_annotations(campaign, client, connection, server, tasks, key):
    eve = join(campaign, "Eve")
    id = server.tasks[tasks[1]]["data"]["mcdal_id"]
    made_up = key.format(stamp=connection.stamp, task=tasks[0], next=next(server._number) + 1)
    campaign.ledger.answer(eve, [Given(made_up, id, "label", 1)])
    server.annotate(tasks[0], 1, "3")
    assert pull(campaign, client, connection).kinds["new"] == 1
    assert said(campaign, server, tasks[0]) == {"Ann": ("label", 3)}
    assert said(campaign, server, tasks[1]) == {"Eve": ("label", 1)}


def test_a_late_answer_to_what_was_ended_is_told(campaign, client, connection, server, tasks):
    id = server.tasks[tasks[0]]["data"]["mcdal_id"]
    campaign.ledger.withdraw([id], "ended")
    server.annotate(tasks[0], 1, "3")
    report = pull(campaign, client, connection)
    assert (report.kinds["new"], report.kinds["late"], report.kinds["asked again"]) == (1, 1, 0)
    assert server.tasks[tasks[0]]["is_labeled"]


def test_answers_are_recorded_in_few_transactions_and_of_one_image_in_their_order(
    campaign, client, connection, server, tasks, monkeypatch
):
    for i, task in enumerate(tasks[:10]):  # by turns: each change of person was a transaction
        server.annotate(task, 1 + i % 2, "3")
    server.annotate(tasks[0], 2, "4")
    calls, real = [], type(campaign.ledger).answer

    def counted(self, person, given):
        calls.append([g.sample_id for g in given])
        return real(self, person, given)

    monkeypatch.setattr(type(campaign.ledger), "answer", counted)
    assert pull(campaign, client, connection).kinds["new"] == 11
    assert [len(ids) for ids in calls] == [5, 5, 1]
    first = server.tasks[tasks[0]]["data"]["mcdal_id"]
    assert [first in ids for ids in calls].count(True) == 2 and calls[-1] == [first]
    assert asked(campaign)[first].closed and next(r.number for r in labeled(campaign) if r.sample_id == first) == 3


def test_many_keys_are_looked_up_at_once(campaign, client, connection, server, tasks):
    for task in tasks:
        server.annotate(task, 1, "3")
    pull(campaign, client, connection)
    statements = []
    with campaign.database.read() as reading:
        engine = reading.engine
    event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    pull(campaign, client, connection)
    assert len(statements) < 25 < len(tasks)


def test_people_who_were_removed_are_listened_to_no_more(campaign, client, connection, server, tasks):
    server.annotate(tasks[0], 1, "3")
    pull(campaign, client, connection)
    door = Door(campaign.ledger, campaign.secret)
    door.remove(door.named("Ann"))
    server.annotate(tasks[1], 1, "3")
    report = pull(campaign, client, connection)
    assert report.kinds["new"] == 0 and len(report.told["removed"]) == 2
    assert len(labeled(campaign)) == 1


def test_of_a_webhook_only_its_tasks_are_looked_at(campaign, client, connection, server, tasks):
    server.annotate(tasks[0], 1, "3")
    server.annotate(tasks[1], 1, "3")
    before = len(server.asked)
    assert pull_tasks(campaign, client, connection, [tasks[1], tasks[1], 9999]).kinds["new"] == 1
    assert [path for path in server.asked[before:] if "tasks" in path] == [
        f"GET /api/tasks/{tasks[1]}", "GET /api/tasks/9999",
    ]  # fmt: skip


def test_watching_looks_at_what_has_changed(campaign, client, connection, server, tasks):
    puller = Puller(campaign, client, connection)
    server.annotate(tasks[0], 1, "3")
    assert puller.pull().annotations == 1
    server.annotate(tasks[1], 1, "4")
    number = server.annotate(tasks[2], 1, "4")
    report = puller.pull()
    assert (report.annotations, report.kinds["new"]) == (3, 2)
    server.delete(number)
    report = puller.pull()
    assert (report.annotations, report.kinds["deleted"]) == (0, 1)


def test_a_pull_that_is_cut_off_goes_on(campaign, client, connection, server, tasks, monkeypatch):
    for task in tasks[:4]:
        server.annotate(task, 1 + task % 2, "3")
    real = type(campaign.ledger).answer
    calls = []

    def once(self, person, given):
        calls.append(person)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, person, given)

    monkeypatch.setattr(type(campaign.ledger), "answer", once)
    with pytest.raises(KeyboardInterrupt):
        pull(campaign, client, connection)
    monkeypatch.undo()
    pull(campaign, client, connection)
    assert len(labeled(campaign)) == 4 and all(row.answers == 1 for row in labeled(campaign))


def test_what_the_server_does_not_say_is_not_taken_for_deleted(campaign, client, connection, server, tasks):
    server.annotate(tasks[0], 1, "3")
    pull(campaign, client, connection)
    server.down = True
    with pytest.raises(CampaignError, match="does not answer"):
        pull(campaign, client, connection)
    assert len(labeled(campaign)) == 1


def test_an_interface_that_was_changed_takes_no_answers_back(campaign, client, connection, server, tasks):
    server.annotate(tasks[0], 1, "3")
    pull(campaign, client, connection)
    project = server.projects[connection.project]
    project["label_config"] = project["label_config"].replace('name="label"', 'name="kind"')
    assert pull(campaign, client, connection).changes == 0
    project["label_config"] = '<View><Image name="image" value="$image"/></View>'
    with pytest.raises(CampaignError, match="0 <Choices>"):
        pull(campaign, client, connection)
    assert len(labeled(campaign)) == 1
