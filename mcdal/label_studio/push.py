"""The open questions of a campaign as tasks, in the order that they are asked in; never the pool. Twice is as once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcdal.campaign.definition import Opened
from mcdal.errors import CampaignError
from mcdal.label_studio.client import Client, Json
from mcdal.label_studio.connect import fit_classes
from mcdal.label_studio.connection import Connection, alone, stamp_of
from mcdal.label_studio.images import addresses
from mcdal.label_studio.questions import Asked, asked, model_version
from mcdal.label_studio.shapes import Control, choice, classifier


@dataclass
class Pushed:
    """What a push did. broken: images that cannot be shown, with why. classes: that the interface lacked."""

    version: str
    made: int = 0
    scored: int = 0
    removed: int = 0
    doubled: int = 0
    asked_again: int = 0
    there: int = 0
    classes: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        said = [f"{self.version}: {self.made} new tasks, {self.there} were there already"]
        for count, words in (
            (self.scored, "tasks of before have a score of this round now"),
            (self.removed, "tasks taken away that nobody had answered and nobody needs to"),
            (self.doubled, "tasks taken away that were there twice"),
            (self.asked_again, "tasks set to the number of people that are asked"),
        ):
            if count:
                said.append(f"  {count} {words}")
        if self.classes:
            said.append(f"  classes added to the labeling interface: {', '.join(self.classes)}")
        said += [f"  not pushed: {why}" for why in self.broken.values()]
        return said


def push(campaign: Opened, client: Client, connection: Connection) -> Pushed:
    """Makes what is missing, takes away what is asked no more, and sets the order. CampaignError before the first round."""
    if campaign.ledger.last_round() is None:
        raise CampaignError(
            f"nothing is asked yet: `mcdal campaign train {campaign.folder}` picks the first images, and "
            f"`mcdal label-studio sync {campaign.folder}` does that by itself"
        )
    with alone(campaign.folder):
        project = the_project(client, connection)
        done = Pushed(model_version(campaign))
        done.classes = fit_classes(campaign, client, project)
        control, _ = classifier(project["label_config"], campaign.ledger.classes())
        questions = asked(campaign)
        there = _ours(client, connection.project)
        keep = {id: _without_doubles(tasks, done) for id, tasks in there.items()}
        away = [t for tasks, kept in zip(there.values(), keep.values(), strict=True) for t in tasks if t not in kept]
        idle = [t for id, tasks in keep.items() for t in tasks if not _needed(questions.get(id)) and not _is_begun(t)]
        done.removed = len(idle)
        client.delete_tasks(connection.project, [t["id"] for t in [*away, *idle]])
        wanted = [q for q in questions.values() if not q.closed]
        new = [q for q in wanted if q.sample_id not in keep]
        done.there = len(wanted) - len(new)
        _score(
            campaign, client, connection, control, [(q, keep[q.sample_id]) for q in wanted if q.sample_id in keep], done
        )
        numbers = _make(campaign, client, connection, control, new, done)
        # The last: until now the scores of the round before decide, afterwards all have one of this round.
        if project.get("model_version") != done.version:
            client.change_project(connection.project, {"model_version": done.version})
        _ask_as_many(client, questions, keep, numbers, done)
    return done


def the_project(client: Client, connection: Connection) -> Json:
    """The project as it stands. CampaignError where another one has its number now."""
    project = client.project(connection.project)
    if stamp_of(project) != connection.stamp:
        raise CampaignError(
            f"project {connection.project} of {connection.url} is another one than was connected: connect again with --project"
        )
    return project


def prediction(control: Control, classes: Sequence[str], question: Asked, version: str) -> Json:
    """The score alone, where there is no guess that people may see."""
    guess = [choice(control, classes[question.guess])] if question.guess is not None else []
    return {"model_version": version, "score": question.score, "result": guess}


def mcdal_id(task: Mapping[str, Any]) -> str | None:
    """Tasks are known by this alone: names of files and addresses change on their way through Label Studio."""
    data = task.get("data")
    id = data.get("mcdal_id") if isinstance(data, dict) else None
    return id if isinstance(id, str) else None


def _ours(client: Client, project: int) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = defaultdict(list)
    for task in client.tasks(project):
        if (id := mcdal_id(task)) is not None:
            found[id].append(task)
    return found


def _is_begun(task: Json) -> bool:
    return bool(task.get("total_annotations") or task.get("cancelled_annotations") or task.get("drafts"))


def _needed(question: Asked | None) -> bool:
    """A task of an id that this campaign does not know is not ours to take away."""
    return question is None or not question.closed


def _without_doubles(tasks: list[Json], done: Pushed) -> list[Json]:
    """Those that somebody has answered, or else the first: a push that was cut off may have made some again."""
    begun = [task for task in tasks if _is_begun(task)]
    kept = begun or tasks[:1]
    done.doubled += len(tasks) - len(kept)
    return kept


def _score(
    campaign: Opened, client: Client, connection: Connection, control: Control, there: Sequence[tuple[Asked, list[Json]]],
    done: Pushed,
) -> None:  # fmt: skip
    """Tasks of earlier rounds that are still asked get a score of this one."""
    classes = campaign.ledger.classes()
    missing = [
        {"task": task["id"], **prediction(control, classes, question, done.version)}
        for question, tasks in there
        for task in tasks
        if not any(p.get("model_version") == done.version for p in task.get("predictions", []))
    ]
    client.import_predictions(connection.project, missing)
    done.scored = len(missing)


def _make(
    campaign: Opened, client: Client, connection: Connection, control: Control, new: Sequence[Asked], done: Pushed
) -> dict[str, int]:
    """Tasks in the order of the questions, so that sampling one after the other follows it too; gives their numbers."""
    classes = campaign.ledger.classes()
    images, done.broken = addresses(campaign, client, connection, [q.sample_id for q in new])
    made = [q for q in new if q.sample_id in images]
    tasks = [
        {
            "data": {
                "image": images[q.sample_id], "mcdal_id": q.sample_id, "mcdal_rank": q.rank, "mcdal_round": q.round,
            },
            "predictions": [prediction(control, classes, q, done.version)],
        }
        for q in made
    ]  # fmt: skip
    numbers = client.import_tasks(connection.project, tasks)
    done.made = len(tasks)
    return dict(zip((q.sample_id for q in made), numbers, strict=True))


def _ask_as_many(
    client: Client,
    questions: Mapping[str, Asked],
    keep: Mapping[str, list[Json]],
    numbers: Mapping[str, int],
    done: Pushed,
) -> None:
    """A task is given out until it has `overlap` annotations; two people are asked of some images, and more where they differ."""
    fresh = {id: [{"id": number, "overlap": 1, "is_labeled": False}] for id, number in numbers.items()}
    for id, tasks in {**keep, **fresh}.items():
        question = questions.get(id)
        if question is None:
            continue
        for task in tasks:
            if question.closed and not _is_begun(task):
                continue  # it was taken away
            had = int(task.get("total_annotations") or 0)
            missing = 0 if question.closed else max(1, question.wanted - question.given)
            wanted = {"overlap": max(1, had + missing), "is_labeled": question.closed}
            if {name: task.get(name) for name in wanted} != wanted:
                client.change_task(task["id"], wanted)
                done.asked_again += 1
