"""The open questions of a campaign as tasks, in the order that they are asked in; never the pool. Twice is as once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mcdal.campaign.definition import Opened
from mcdal.errors import CampaignError
from mcdal.label_studio.client import Client
from mcdal.label_studio.connect import fit_classes
from mcdal.label_studio.connection import Connection, alone, the_project
from mcdal.label_studio.http import Json
from mcdal.label_studio.images import addresses
from mcdal.label_studio.overlap import is_begun
from mcdal.label_studio.pull import take
from mcdal.label_studio.questions import Asked, asked, mcdal_id, model_version
from mcdal.label_studio.report import Report
from mcdal.label_studio.shapes import Control, choice, classifier


@dataclass
class Pushed:
    """What a push did. pulled: what it took before. classes: that the interface lacked. broken: images that cannot be shown."""

    version: str
    pulled: Report
    classes: list[str]
    made: int = 0
    scored: int = 0
    removed: int = 0
    doubled: int = 0
    there: int = 0
    broken: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        said = self.pulled.lines() if self.pulled.changes else []
        said.append(f"{self.version}: {self.made} new tasks, {self.there} were there already")
        for count, words in (
            (self.scored, "tasks of before have a score of this round now"),
            (self.removed, "tasks taken away that nobody had answered and nobody needs to"),
            (self.doubled, "tasks taken away that were there twice"),
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
        classes = fit_classes(campaign, client, project)
        tasks = list(client.tasks(connection.project))
        # First, from the same list: who is still to be asked follows from what people have answered by now.
        done = Pushed(model_version(campaign), take(campaign, client, connection, project, tasks, True), classes)
        control, _ = classifier(project["label_config"], campaign.ledger.classes())
        questions = asked(campaign)
        keep = _tidied(client, connection, questions, tasks, done)
        wanted = [q for q in questions.values() if not q.closed]
        new = [q for q in wanted if q.sample_id not in keep]
        done.there = len(wanted) - len(new)
        there = [(q, keep[q.sample_id]) for q in wanted if q.sample_id in keep]
        _score(campaign, client, connection, control, there, done)
        _make(campaign, client, connection, control, new, done)
        # The last: until now the scores of the round before decide, afterwards all have one of this round.
        if project.get("model_version") != done.version:
            client.change_project(connection.project, {"model_version": done.version})
    return done


def prediction(control: Control, classes: Sequence[str], question: Asked, version: str) -> Json:
    """The score alone, where there is no guess that people may see."""
    guess = [choice(control, classes[question.guess])] if question.guess is not None else []
    return {"model_version": version, "score": question.score, "result": guess}


def _tidied(
    client: Client, connection: Connection, questions: Mapping[str, Asked], tasks: Sequence[Json], done: Pushed
) -> dict[str, list[Json]]:
    """Takes tasks away that are there twice, or that nobody has begun and nobody needs to; gives those that stay, by image."""
    there: dict[str, list[Json]] = defaultdict(list)
    for task in tasks:
        if (id := mcdal_id(task)) is not None:
            there[id].append(task)
    keep = {id: [task for task in copies if is_begun(task)] or copies[:1] for id, copies in there.items()}
    doubled = [task for id, copies in there.items() for task in copies if task not in keep[id]]
    idle = [t for id, kept in keep.items() for t in kept if not _needed(questions.get(id)) and not is_begun(t)]
    done.doubled = _delete(client, connection.project, doubled)
    done.removed = _delete(client, connection.project, idle)
    return keep


def _delete(client: Client, project: int, tasks: Sequence[Json]) -> int:
    """Each is looked at once more right before: somebody may have begun it since. How many there were."""
    numbers = [int(task["id"]) for task in tasks]
    idle = [n for n in numbers if (now := client.task(n)) is not None and not is_begun(now)]
    client.delete_tasks(project, idle)
    return len(idle)


def _needed(question: Asked | None) -> bool:
    """A task of an id that this campaign does not know is not ours to take away."""
    return question is None or not question.closed


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
) -> None:
    """Tasks in the order of the questions, so that sampling one after the other follows it too.

    Each part as soon as its images are there: a push that is cut off has not sent them for nothing.
    """
    classes = campaign.ledger.classes()
    questions = {q.sample_id: q for q in new}
    for images in addresses(campaign, client, connection, list(questions), done.broken):
        tasks = [
            {
                "data": {"image": image, "mcdal_id": id, "mcdal_rank": q.rank, "mcdal_round": q.round},
                "predictions": [prediction(control, classes, q, done.version)],
            }
            for id, image in images.items()
            for q in (questions[id],)
        ]
        client.import_tasks(connection.project, tasks)
        done.made += len(tasks)
