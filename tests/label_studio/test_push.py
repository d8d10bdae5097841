"""What is asked becomes tasks, once, in the order that Label Studio gives out."""

import json

import pytest

from mcdal.campaign.definition import opened
from mcdal.campaign.ledger import Given, Question
from mcdal.campaign.trainer import train
from mcdal.errors import CampaignError
from mcdal.label_studio.connect import connect
from mcdal.label_studio.images import by_address, local
from mcdal.label_studio.pull import pull
from mcdal.label_studio.push import push
from mcdal.label_studio.questions import asked
from tests.campaign.conftest import begin, join


def test_people_are_given_images_in_the_order_of_the_campaign(campaign, client, connection, server):
    done = push(campaign, client, connection)
    ranked = [q.sample_id for q in campaign.ledger.of_round(0)]
    assert done.made == 35 and sorted(server.ids()) == sorted(ranked)
    given = []
    while (task := server.next(connection.project, 1)) is not None:
        given.append(task["data"]["mcdal_id"])
        server.annotate(task["id"], 1, "3")
    assert given == ranked
    assert server.tasks[server.task_of(ranked[0])]["data"]["image"] == f"https://img.test/{ranked[0]}"


def test_audit_images_look_like_all_others(photos, tmp_path, client, server):
    """Whatever the page or its programs show of a task, though two people are asked of each audit image."""
    begin(tmp_path / "c", photos[0], audit_answers=2, double=0.0)
    train(tmp_path / "c", "cpu")
    with opened(tmp_path / "c") as campaign:
        made, _ = connect(campaign, client, None, "url", "https://img.test/{id}", None)
        push(campaign, client, made)
        kept = {q.sample_id for q in campaign.ledger.of_round(0) if q.arm == "audit"}
        assert {q.wanted for q in asked(campaign).values()} == {1, 2}
        shown = {True: set(), False: set()}
        for task in client.tasks(made.project):
            own = task.pop("data"), task.pop("predictions")
            assert list(own[0]) == ["image", "mcdal_id", "mcdal_rank", "mcdal_round"]
            (prediction,) = own[1]
            del prediction["score"], task["id"], task["updated_at"]  # in the order of the tasks
            shown[own[0]["mcdal_id"] in kept].add(json.dumps([task, prediction], sort_keys=True))
        assert shown[True] == shown[False] and len(shown[True]) == 1


def test_a_second_person_is_asked_only_when_the_first_has_answered(campaign, client, connection, server):
    push(campaign, client, connection)
    twice = [q.sample_id for q in asked(campaign).values() if q.wanted == 2]
    once = server.task_of(next(q.sample_id for q in asked(campaign).values() if q.wanted == 1))
    tasks = [server.task_of(id) for id in twice]
    assert {task["overlap"] for task in server.tasks.values()} == {1}
    server.annotate(once, 2, "3")
    server.annotate(tasks[0], 1, "3")
    assert pull(campaign, client, connection).kinds["asked again"] == 1
    assert [server.tasks[n]["overlap"] for n in (tasks[0], once, tasks[1])] == [2, 1, 1]
    assert server.next(connection.project, 1)["id"] != tasks[0]
    server.annotate(tasks[0], 2, "3")
    pull(campaign, client, connection)
    assert asked(campaign)[twice[0]].closed and server.tasks[tasks[0]]["is_labeled"]


def test_a_second_push_makes_nothing_and_few_calls(campaign, client, connection, server):
    push(campaign, client, connection)
    before, calls = {k: dict(v) for k, v in server.tasks.items()}, client.calls
    again = push(campaign, client, connection)
    assert (again.made, again.scored, again.removed, again.there) == (0, 0, 0, 35)
    assert server.tasks == before and client.calls - calls == 2


def test_a_thousand_tasks_take_a_dozen_calls(campaign, client, connection):
    campaign.ledger.ask([Question(f"x/{i}.png", 1, i, "start") for i in range(1000)])
    before = client.calls
    assert push(campaign, client, connection).made == 1035
    assert client.calls - before < 20


def test_a_new_round_is_ordered_anew_and_what_is_still_open_comes_first(campaign, client, connection, server):
    push(campaign, client, connection)
    late = [q.sample_id for q in campaign.ledger.of_round(0)]
    campaign.ledger.ask([Question(f"new/{i}.png", 1, i, "strategy") for i in range(3)])
    done = push(campaign, client, connection)
    assert (done.version, done.made, done.scored) == ("mcdal-r1", 3, 35)
    assert server.projects[connection.project]["model_version"] == "mcdal-r1"
    given = []
    while (task := server.next(connection.project, 1)) is not None:
        given.append(task["data"]["mcdal_id"])
        server.annotate(task["id"], 1, "3")
    assert given == [*late, "new/0.png", "new/1.png", "new/2.png"]


def test_what_was_answered_on_the_campaigns_own_page_is_taken_away(campaign, client, connection, server):
    push(campaign, client, connection)
    ann = join(campaign, "Ann")
    answered = [q.sample_id for q in campaign.ledger.next(ann, 8) if q.wanted == 1]
    campaign.ledger.answer(ann, [Given(f"key-{id}", id, "label", 1) for id in answered])
    assert push(campaign, client, connection).removed == len(answered) > 4
    assert not set(answered) & set(server.ids())


def test_tasks_that_are_there_twice_are_reduced_to_what_people_answered(campaign, client, connection, server):
    push(campaign, client, connection)
    first, second = list(server.tasks.values())[:2]
    copies = client.import_tasks(
        connection.project, [{"data": t["data"], "predictions": t["predictions"]} for t in (first, second)]
    )
    server.annotate(copies[0], 1, "3")
    assert push(campaign, client, connection).doubled == 2
    assert len(server.ids()) == 35 == len(set(server.ids()))
    assert copies[0] in server.tasks and first["id"] not in server.tasks and copies[1] not in server.tasks


def test_two_people_are_asked_where_two_are_wanted_and_a_third_where_they_differ(campaign, client, connection, server):
    push(campaign, client, connection)
    twice = next(q.sample_id for q in asked(campaign).values() if q.wanted == 2)
    task = server.task_of(twice)
    server.users[3] = {**server.users[1], "id": 3, "email": "cy@example.org"}
    started = server.task_of(next(q.sample_id for q in asked(campaign).values() if q.wanted == 1))
    server.annotate(started, 3, "3")
    for other in (1, 2):
        join(campaign, f"P{other}")
        server.annotate(task, other, str(other))
    assert server.tasks[task]["is_labeled"]
    before = len(server.asked)
    pull(campaign, client, connection)
    assert asked(campaign)[twice].wanted == 3
    assert (server.tasks[task]["overlap"], server.tasks[task]["is_labeled"]) == (3, False)
    assert [path for path in server.asked[before:] if "PATCH" in path] == [f"PATCH /api/tasks/{task}"]
    assert server.next(connection.project, 1)["id"] != task
    server.annotate(task, 3, "2")
    pull(campaign, client, connection)
    assert asked(campaign)[twice].closed


def test_nobody_is_asked_for_what_was_answered_since_the_last_pull(campaign, client, connection, server):
    push(campaign, client, connection)
    task = server.task_of(next(q.sample_id for q in asked(campaign).values() if q.wanted == 1))
    server.annotate(task, 1, "3")
    before = len(server.asked)
    done = push(campaign, client, connection)
    assert done.pulled.kinds["new"] == 1 and "1 new" in done.lines()[0]
    assert (server.tasks[task]["overlap"], server.tasks[task]["is_labeled"]) == (1, True)
    assert server.asked[before:].count("GET /api/tasks") == 1


def test_of_two_tasks_of_one_image_one_is_asked_again(campaign, client, connection, server):
    push(campaign, client, connection)
    for person in ("Cy", "Di"):
        join(campaign, person)
    twice = next(q.sample_id for q in asked(campaign).values() if q.wanted == 2)
    task = server.task_of(twice)
    (copy,) = client.import_tasks(connection.project, [{"data": server.tasks[task]["data"], "predictions": []}])
    server.annotate(task, 1, "3")
    server.annotate(copy, 2, "4")
    push(campaign, client, connection)
    assert not asked(campaign)[twice].closed
    assert [(server.tasks[n]["overlap"], server.tasks[n]["is_labeled"]) for n in (task, copy)] == [
        (2, False),
        (1, True),
    ]


def test_what_somebody_else_has_begun_is_not_taken_away(campaign, client, connection, server):
    """The list has drafts of the token's owner alone, and somebody may begin after it was read."""
    push(campaign, client, connection)
    ann = join(campaign, "Ann")
    first, second, third = [q.sample_id for q in campaign.ledger.next(ann, 8) if q.wanted == 1][:3]
    for id in (first, second, third):
        campaign.ledger.answer(ann, [Given(f"key-{id}", id, "label", 1)])
    server.draft(server.task_of(first), 2)
    real, started = client.tasks, []

    def listed(*given):
        found = list(real(*given))
        started.append(server.annotate(server.task_of(second), 2, "3"))
        return iter(found)

    client.tasks = listed
    assert push(campaign, client, connection).removed == 1
    assert {first, second} <= set(server.ids()) and third not in server.ids() and started


def test_guesses_are_sent_only_where_people_may_see_them(campaign, client, connection, server):
    campaign.ledger.ask([Question("new/0.png", 1, 0, "strategy"), Question("new/1.png", 1, 1, "control")])
    campaign.ledger.explain({"new/0.png": (7, 0.9, ["why"]), "new/1.png": (None, None, ["why"])})
    push(campaign, client, connection)
    results = [server.tasks[server.task_of(id)]["predictions"][0]["result"] for id in ("new/0.png", "new/1.png")]
    value = {"choices": ["7"]}
    assert results == [[{"from_name": "label", "to_name": "image", "type": "choices", "value": value}], []]
    assert server.projects[connection.project]["show_collab_predictions"] is True


def test_no_guess_leaves_a_campaign_without_guesses(photos, tmp_path, client, server):
    begin(tmp_path / "c", photos[0], guesses=False)
    with opened(tmp_path / "c") as campaign:
        made, _ = connect(campaign, client, None, "url", "https://img.test/{id}", None)
        campaign.ledger.ask([Question("new/0.png", 1, 0, "strategy")])
        campaign.ledger.explain({"new/0.png": (7, 0.9, ["why"])})
        push(campaign, client, made)
    assert next(iter(server.tasks.values()))["predictions"][0]["result"] == []
    assert server.projects[made.project]["show_collab_predictions"] is False


def test_images_are_sent_where_nothing_else_is_said_and_broken_ones_are_named(campaign, client, server, photos):
    made, _ = connect(campaign, client, None, "upload", "", None)
    campaign.ledger.ask([Question("not/there.png", 0, 99, "start")])
    done = push(campaign, client, made)
    assert done.made == 35 and list(done.broken) == ["not/there.png"] and "not pushed" in "\n".join(done.lines())
    assert len(server.uploads) == 35
    images = {task["data"]["image"] for task in server.tasks.values()}
    assert len(images) == 35 and all(i.startswith(f"/data/upload/{made.project}/") for i in images)
    push(campaign, client, made)
    assert len(server.uploads) == 35


def test_a_push_that_is_cut_off_has_made_the_tasks_of_the_images_that_it_sent(
    campaign, client, server, photos, monkeypatch
):
    made, _ = connect(campaign, client, None, "upload", "", None)
    real, sent = client.upload, []

    def once(project, files):
        if sent:
            raise KeyboardInterrupt
        sent.extend(files)
        return real(project, files)

    monkeypatch.setattr(client, "upload", once)
    with pytest.raises(KeyboardInterrupt):
        push(campaign, client, made)
    monkeypatch.undo()
    assert len(server.tasks) == len(sent) == 25
    assert push(campaign, client, made).made == 10 and len(server.uploads) == 35


def test_images_from_the_servers_own_disk(campaign, client, server, photos):
    root = photos[0].parent
    made, _ = connect(campaign, client, None, "local", str(root), None)
    connect(campaign, client, None, "local", str(root), None)
    assert [s["path"] for s in server.storages] == [str(photos[0].resolve())]
    push(campaign, client, made)
    id = server.ids()[0]
    assert server.tasks[server.task_of(id)]["data"]["image"] == f"/data/local-files/?d={photos[0].name}/{id}"


def test_addresses_of_images(tmp_path):
    assert by_address("https://x.test/i/{id}?v=1", "a b/ü?.png") == "https://x.test/i/a%20b/%C3%BC%3F.png?v=1"
    assert local(tmp_path, tmp_path / "a b" / "ü.png").endswith("?d=a%20b/%C3%BC.png")
    for template in ("https://x.test/", "{id}", "file:///{id}"):
        with pytest.raises(CampaignError, match="--image-url"):
            by_address(template, "a")
    with pytest.raises(CampaignError, match="DOCUMENT_ROOT"):
        local(tmp_path / "sub", tmp_path / "a.png")


def test_classes_that_were_added_reach_the_interface(campaign, client, connection, server):
    campaign.ledger.add_classes(["eleven & more"])
    assert push(campaign, client, connection).classes == ["eleven & more"]
    assert push(campaign, client, connection).classes == []
    assert server.projects[connection.project]["label_config"].count('"eleven &amp; more"') == 1


def test_nothing_is_pushed_before_a_round_is_asked(photos, tmp_path, client, server):
    begin(tmp_path / "c", photos[0])
    with opened(tmp_path / "c") as campaign:
        made, _ = connect(campaign, client, None, "upload", "", None)
        with pytest.raises(CampaignError, match="nothing is asked yet"):
            push(campaign, client, made)


def test_a_server_that_takes_fewer_predictions_than_it_was_sent_is_found_out(campaign, client, connection, server):
    push(campaign, client, connection)
    wrong = {"task": next(iter(server.tasks)), "model_version": "x", "score": 0.1, "result": [{"from_name": "nope"}]}
    with pytest.raises(CampaignError, match="took 0 of 1 predictions"):
        client.import_predictions(connection.project, [wrong])


def test_another_project_of_the_same_number_is_not_written_to(campaign, client, connection, server):
    server.projects[connection.project]["created_at"] = "2027-01-01T00:00:00Z"
    with pytest.raises(CampaignError, match="another one than was connected"):
        push(campaign, client, connection)
    assert server.tasks == {}
