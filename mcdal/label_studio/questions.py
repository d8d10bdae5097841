"""What a campaign asks, as tasks want it: in one order, with a score that says it, and what came from Label Studio before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from mcdal.campaign.definition import Opened
from mcdal.campaign_tables import answers, questions, standing

AT_ONCE = 500


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
    withdrawn: bool
    guess: int | None
    confidence: float | None


def model_version(campaign: Opened) -> str:
    """Of the round that is asked now: the name that Label Studio finds the right scores by."""
    return f"mcdal-r{campaign.ledger.last_round() or 0}"


def asked(campaign: Opened, ids: Sequence[str] | None = None) -> dict[str, Asked]:
    """All questions, or those of these ids, by id, the first asked first.

    Label Studio gives out what has the least score. It follows from round and rank alone, so that it stays while a round lasts
    whatever is answered: (round + place in the round) / rounds.
    """
    q, name = questions.c, campaign.campaign.name
    columns = (q.sample_id, q.round, q.rank, q.arm, q.wanted, q.given, q.closed_at, q.verdict, q.guess, q.confidence)
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
            r.closed_at is not None, r.verdict == "withdrawn", r.guess if shown else None, r.confidence if shown else None,
        )
        for r in rows
    }  # fmt: skip


def wants(campaign: Opened) -> tuple[int | None, int, int, tuple[str, ...]]:
    """What a push follows from, without the answers: the round, how many images, how many opinions, which classes."""
    q = questions.c
    query = select(func.max(q.round), func.count(), func.coalesce(func.sum(q.wanted), 0))
    with campaign.database.read() as connection:
        row = connection.execute(query.where(q.campaign_id == campaign.campaign.name)).one()
    return row[0], row[1], row[2], campaign.ledger.classes()


@dataclass(frozen=True)
class Pulled:
    """An answer of a Label Studio user that stands. task, annotation, updated: what it came from."""

    sample_id: str
    person_id: str
    key: str
    task: int
    annotation: int
    updated: str
    verdict: str
    value: int | None


def key_of(stamp: str, task: int, annotation: int, updated: str) -> str:
    """Of an answer: the same annotation in the same state is said once, however often it is pulled."""
    return f"ls/{stamp}/{task}/{annotation}/{updated}"


def stands(campaign: Opened, stamp: str) -> list[Pulled]:
    """The answers from this project that stand."""
    s, prefix = standing.c, f"ls/{stamp}/"
    query = select(s.sample_id, s.person_id, s.key, s.verdict, s.value).where(
        s.campaign_id == campaign.campaign.name, s.key.startswith(prefix, autoescape=True)
    )
    with campaign.database.read() as connection:
        rows = connection.execute(query).all()
    found = []
    for sample, person, key, verdict, value in rows:
        _, _, task, annotation, updated, *_ = key.split("/")
        found.append(Pulled(sample, person, key, int(task), int(annotation), updated, verdict, value))
    return found


def said_before(campaign: Opened, keys: Sequence[str]) -> Mapping[str, int]:
    """How often each of these keys was used, whether or not the answer stands."""
    a, counts = answers.c, {}
    with campaign.database.read() as connection:
        for key in keys:
            mine = (a.campaign_id == campaign.campaign.name) & (
                (a.key == key) | a.key.startswith(f"{key}/", autoescape=True)
            )
            counts[key] = int(connection.execute(select(func.count()).where(mine, a.verdict != "undo")).scalar_one())
    return counts
