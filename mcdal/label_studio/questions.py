"""What a campaign asks, as tasks want it: in one order, with a score that says it, and what came from Label Studio before."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select

from mcdal.campaign.definition import Opened
from mcdal.campaign_tables import answers, questions, standing
from mcdal.label_studio.people import PREFIX

AT_ONCE = 500
FEW = 50
"""Of more tasks all that came from their project is read, rather than what came from each."""


@dataclass(frozen=True)
class Asked:
    """A question as it stands. score: between 0 and 1, less for what is asked earlier. wanted, given: answers.

    guess: class number, only where people may see it.
    """

    sample_id: str
    round: int
    rank: int
    score: float
    wanted: int
    given: int
    closed: bool
    guess: int | None


def model_version(campaign: Opened) -> str:
    """Of the round that is asked now: the name that Label Studio finds the right scores by."""
    return f"mcdal-r{campaign.ledger.last_round() or 0}"


def asked(campaign: Opened, ids: Sequence[str] | None = None) -> dict[str, Asked]:
    """All questions, or those of these ids, by id, the first asked first.

    Label Studio gives out what has the least score. It follows from round and rank alone, so that it stays while a round lasts
    whatever is answered: (round + place in the round) / rounds.
    """
    q, name = questions.c, campaign.campaign.name
    columns = (q.sample_id, q.round, q.rank, q.arm, q.wanted, q.given, q.closed_at, q.guess)
    sizes = select(q.round, func.count()).where(q.campaign_id == name, q.arm != "given").group_by(q.round)
    query = select(*columns).where(q.campaign_id == name).order_by(q.round, q.rank)
    parts = [None] if ids is None else [ids[i : i + AT_ONCE] for i in range(0, len(ids), AT_ONCE)]
    with campaign.database.read() as connection:
        size = {row[0]: row[1] for row in connection.execute(sizes)}
        rows = [
            row
            for part in parts
            for row in connection.execute(query if part is None else query.where(q.sample_id.in_(part)))
        ]
    rounds = max(size, default=0) + 1
    shown = campaign.campaign.guesses
    return {
        r.sample_id: Asked(
            r.sample_id, r.round, r.rank, (r.round + (r.rank + 1) / (size.get(r.round, 0) + 2)) / rounds, r.wanted, r.given,
            r.closed_at is not None, r.guess if shown else None,
        )
        for r in rows
    }  # fmt: skip


def wants(campaign: Opened) -> tuple[int | None, int, tuple[str, ...]]:
    """What a push follows from: the round, how many images, which classes."""
    q = questions.c
    query = select(func.max(q.round), func.count()).where(q.campaign_id == campaign.campaign.name)
    with campaign.database.read() as connection:
        row = connection.execute(query).one()
    return row[0], row[1], campaign.ledger.classes()


def mcdal_id(task: Mapping[str, Any]) -> str | None:
    """Tasks are known by this alone: names of files and addresses change on their way through Label Studio."""
    data = task.get("data")
    id = data.get("mcdal_id") if isinstance(data, dict) else None
    return id if isinstance(id, str) else None


# What was said before. Anybody who answers on mcdal's page makes up a key: only those of people from Label Studio are read here.


@dataclass(frozen=True)
class Pulled:
    """An answer of a Label Studio user that stands. stamp, task, annotation, updated: what it came from; empty of others."""

    sample_id: str
    person_id: str
    key: str
    verdict: str
    value: int | None
    stamp: str = ""
    task: int = 0
    annotation: int = 0
    updated: str = ""


@dataclass(frozen=True)
class Recorded:
    """All that ever came from a project. persons: by task and annotation. used: how often each key was said."""

    persons: Mapping[tuple[int, int], str]
    used: Counter[str]


def key_of(stamp: str, task: int, annotation: int, updated: str) -> str:
    """Of an answer: the same annotation in the same state is said once, however often it is pulled."""
    return f"ls/{stamp}/{task}/{annotation}/{updated}"


def stands(campaign: Opened, ids: Sequence[str] | None = None) -> list[Pulled]:
    """The answers of Label Studio users that stand, from whichever project; all, or those to these images."""
    s = standing.c
    query = select(s.sample_id, s.person_id, s.key, s.verdict, s.value).where(
        s.campaign_id == campaign.campaign.name, *_of_label_studio(s.person_id)
    )
    parts = [None] if ids is None else [ids[i : i + AT_ONCE] for i in range(0, len(ids), AT_ONCE)]
    with campaign.database.read() as connection:
        rows = [
            row
            for part in parts
            for row in connection.execute(query if part is None else query.where(s.sample_id.in_(part)))
        ]
    return [Pulled(*row, *(_source(row.key) or ())) for row in rows]


def recorded(campaign: Opened, stamp: str, tasks: Collection[int]) -> Recorded:
    """What came from these tasks, in one query."""
    if not tasks:
        return Recorded({}, Counter())
    a, persons, used = answers.c, dict[tuple[int, int], str](), Counter[str]()
    prefixes = [f"ls/{stamp}/"] if len(tasks) > FEW else [f"ls/{stamp}/{task}/" for task in sorted(tasks)]
    within = or_(*((a.key >= prefix) & (a.key < prefix[:-1] + "0") for prefix in prefixes))  # 0 comes after /
    mine = select(a.key, a.person_id).where(
        a.campaign_id == campaign.campaign.name, within, a.verdict != "undo", *_of_label_studio(a.person_id)
    )
    with campaign.database.read() as connection:
        rows = connection.execute(mine.order_by(a.answer_id)).all()
    for key, person in rows:
        if (source := _source(key)) is not None:
            persons[source[1:3]] = person
            used[key_of(*source)] += 1
    return Recorded(persons, used)


def _of_label_studio(person: Any) -> tuple[Any, Any]:
    """A range, which an index can give."""
    return person >= PREFIX, person < PREFIX[:-1] + "."  # . comes after -


def _source(key: str) -> tuple[str, int, int, str] | None:
    """Stamp, task, annotation and time; None of a key that did not come from Label Studio."""
    found = re.fullmatch(r"ls/([^/]+)/(\d{1,18})/(\d{1,18})/([^/]+)(/again\d+)?", key, re.ASCII)
    return (found[1], int(found[2]), int(found[3]), found[4]) if found else None
