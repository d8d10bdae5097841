"""What a campaign has brought, read at once: labels with who gave them, people with what they did."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import median

from sqlalchemy import func, select

from mcdal.campaign.agreement import Agreement, agreement
from mcdal.campaign.copies import copied
from mcdal.campaign.definition import Opened
from mcdal.campaign.draws import is_double
from mcdal.campaign_tables import answers, people, questions, standing


@dataclass(frozen=True)
class Labeled:
    """One image with a label. by: the names of those who gave it; answers: how many people answered; arm: why it was asked."""

    sample_id: str
    number: int
    label: str
    by: tuple[str, ...]
    answers: int
    at: datetime
    round: int
    arm: str


@dataclass(frozen=True)
class Did:
    """What one person did. seconds: median that an image was looked at; None where the page did not say."""

    name: str
    labels: int
    skipped: int
    cannot_tell: int
    seconds: float | None


def labeled(campaign: Opened) -> list[Labeled]:
    """All labels there are, in the order of the ids; those of the audit and those that were taken over among them."""
    classes, q = campaign.ledger.classes(), questions.c
    with campaign.database.read() as connection:
        query = select(q.sample_id, q.round, q.given).where(q.campaign_id == campaign.name)
        asked = {id: (round, given) for id, round, given in connection.execute(query)}
    found = [
        Labeled(
            o.sample_id, o.value, classes[o.value], o.by, asked[o.sample_id][1], o.at, asked[o.sample_id][0], o.arm
        )
        for o in campaign.ledger.outcomes()
        if o.verdict == "label" and o.value is not None
    ]  # fmt: skip
    whole = {row.sample_id: row for row in found}
    taken_over = [
        replace(whole[copy.of], sample_id=copy.sample_id, by=(f"copy of {copy.of}",), answers=0, arm="copy")
        for copy in copied(campaign.ledger)
        if copy.of in whole
    ]
    return sorted([*found, *taken_over], key=lambda row: row.sample_id)


def did(campaign: Opened) -> list[Did]:
    """Everybody who has answered, by name."""
    s, p, a, name = standing.c, people.c, answers.c, campaign.name
    stands = (
        select(p.name, s.verdict, func.count())
        .join(standing, (s.campaign_id == p.campaign_id) & (s.person_id == p.person_id))
        .where(p.campaign_id == name)
        .group_by(p.name, s.verdict)
    )
    looked = (
        select(p.name, a.seconds)
        .join(answers, (a.campaign_id == p.campaign_id) & (a.person_id == p.person_id))
        .where(p.campaign_id == name, a.seconds.is_not(None))
    )
    counts: dict[str, dict[str, int]] = {}
    seconds: dict[str, list[float]] = {}
    with campaign.database.read() as connection:
        for who, verdict, count in connection.execute(stands):
            counts.setdefault(who, {})[verdict] = count
        for who, spent in connection.execute(looked):
            seconds.setdefault(who, []).append(spent)
    return [
        Did(
            who, of.get("label", 0), of.get("skip", 0), of.get("cannot_tell", 0),
            median(seconds[who]) if who in seconds else None,
        )
        for who, of in sorted(counts.items())
    ]  # fmt: skip


def agreed(campaign: Opened) -> Agreement | None:
    """Between two people, over the images that were drawn to be asked twice, those of the audit among them.

    A third opinion is asked only where two differ, and a late one comes by chance: to count them would tell less than is true.
    """
    definition = campaign.campaign
    s = standing.c
    query = select(s.sample_id, s.value).where(s.campaign_id == campaign.name, s.verdict == "label")
    said: dict[str, list[int]] = {}
    q = questions.c
    of_audit = select(q.sample_id).where(q.campaign_id == campaign.name, q.arm == "audit")
    with campaign.database.read() as connection:
        asked = connection.execute(of_audit).scalars().all()
        for id, value in connection.execute(query.order_by(s.answer_id)):
            said.setdefault(id, []).append(value)
    audit = set(asked) if definition.audit_answers > 1 else set()
    twice = [
        first[:2] for id, first in said.items() if id in audit or is_double(definition.seed, id, definition.double)
    ]
    return agreement(twice)


def last_answer(campaign: Opened) -> datetime | None:
    """When somebody last answered."""
    a = answers.c
    with campaign.database.read() as connection:
        at: datetime | None = connection.execute(
            select(func.max(a.at)).where(a.campaign_id == campaign.name)
        ).scalar_one()
    return None if at is None else at.replace(tzinfo=UTC)
