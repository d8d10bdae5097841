"""What a campaign has asked and been told, read from its store: each method sees one state of it and changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from sqlalchemy import func, select

from mcdal.campaign.decide import Answer
from mcdal.campaign.questions import Arm, Outcome, Progress, Question, question_of
from mcdal.campaign_tables import answers, campaign_classes, people, questions, standing
from mcdal.database import Database


@dataclass
class Readings:
    """Of one campaign in a store; the ledger writes as well."""

    database: Database
    campaign: str

    def question(self, id: str) -> Question | None:
        with self.database.read() as connection:
            row = connection.execute(select(questions).where(self.of(id))).one_or_none()
        return None if row is None else question_of(row)

    def guesses(self, person: str) -> list[tuple[int, int]]:
        """Guessed classes of the open questions that this person has not answered, with how many, the commonest first."""
        q, mine = questions.c, standing.alias()
        on = (mine.c.campaign_id == self.campaign) & (mine.c.sample_id == q.sample_id) & (mine.c.person_id == person)
        query = (
            select(q.guess, func.count().label("n"))
            .select_from(questions.outerjoin(mine, on))
            .where(
                q.campaign_id == self.campaign, q.closed_at.is_(None), q.guess.is_not(None), mine.c.verdict.is_(None)
            )
            .group_by(q.guess)
            .order_by(func.count().desc(), q.guess)
        )
        with self.database.read() as connection:
            return [(guess, n) for guess, n in connection.execute(query)]

    def outcomes(self, arms: Sequence[Arm] | None = None) -> list[Outcome]:
        """The closed questions, in the order in which they were asked."""
        q, s, p = questions.c, standing.c, people.c
        query = select(questions).where(q.campaign_id == self.campaign, q.closed_at.is_not(None))
        if arms is not None:
            query = query.where(q.arm.in_(arms))
        said = (
            select(s.sample_id, s.verdict, s.value, p.name)
            .join(people, (p.campaign_id == s.campaign_id) & (p.person_id == s.person_id))
            .where(s.campaign_id == self.campaign, s.verdict != "skip")
            .order_by(s.answer_id)
        )
        with self.database.read() as connection:
            whose: dict[tuple[str, str, int | None], list[str]] = {}
            for id, verdict, value, name in connection.execute(said):
                whose.setdefault((id, verdict, value), []).append(name)
            rows = connection.execute(query.order_by(q.round, q.rank, q.sample_id)).all()
        return [
            Outcome(
                r.sample_id, r.arm, r.verdict, r.value, tuple(whose.get((r.sample_id, r.verdict, r.value), ())),
                r.closed_at.replace(tzinfo=UTC),
            )
            for r in rows
        ]  # fmt: skip

    def open(self) -> list[str]:
        """Ids of what is not answered yet."""
        q = questions.c
        query = select(q.sample_id).where(q.campaign_id == self.campaign, q.closed_at.is_(None))
        with self.database.read() as connection:
            return list(connection.execute(query).scalars())

    def withdrawn(self) -> list[str]:
        """Ids of what is asked about no more, because the image has gone."""
        q = questions.c
        query = select(q.sample_id).where(q.campaign_id == self.campaign, q.verdict == "withdrawn")
        with self.database.read() as connection:
            return list(connection.execute(query).scalars())

    def waits(self) -> bool:
        """Whether something is not answered yet."""
        q = questions.c
        query = select(q.sample_id).where(q.campaign_id == self.campaign, q.closed_at.is_(None)).limit(1)
        with self.database.read() as connection:
            return connection.execute(query).first() is not None

    def unexplained(self) -> bool:
        """Whether the last round, picked by a model, waits without a word on its images: somebody was killed before that."""
        q = questions.c
        newest = select(func.max(q.round)).where(q.campaign_id == self.campaign).scalar_subquery()
        query = select(q.sample_id).where(
            q.campaign_id == self.campaign, q.round == newest, q.round > 0, q.arm == "strategy", q.guess.is_(None),
            q.closed_at.is_(None),
        )  # fmt: skip
        with self.database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def known(self, ids: Sequence[str]) -> frozenset[str]:
        """Those of these ids that were asked about, whenever."""
        q = questions.c
        with self.database.read() as connection:
            there = connection.execute(select(q.sample_id).where(q.campaign_id == self.campaign)).scalars()
            return frozenset(ids) & frozenset(there)

    def of_round(self, round: int) -> list[Question]:
        """What a round asks, the first first."""
        query = select(questions).where(questions.c.campaign_id == self.campaign, questions.c.round == round)
        with self.database.read() as connection:
            return [
                question_of(row) for row in connection.execute(query.order_by(questions.c.rank, questions.c.sample_id))
            ]

    def progress(
        self, round: int | None = None, arms: Sequence[Arm] | None = None, before: int | None = None
    ) -> Progress:
        """Of a round, of those before one, or of the whole campaign; of these arms, or of all."""
        q = questions.c
        query = select(func.count(), func.count(q.closed_at), func.count(q.value)).where(q.campaign_id == self.campaign)
        if round is not None:
            query = query.where(q.round == round)
        if before is not None:
            query = query.where(q.round < before)
        if arms is not None:
            query = query.where(q.arm.in_(arms))
        with self.database.read() as connection:
            return Progress(*connection.execute(query).one())

    def last_round(self) -> int | None:
        """The newest round that was asked; None before the first."""
        q = questions.c
        with self.database.read() as connection:
            newest: int | None = connection.execute(
                select(func.max(q.round)).where(q.campaign_id == self.campaign)
            ).scalar_one()
        return newest

    def labels_of(self, person: str) -> int:
        """How many labels of this person stand."""
        s = standing.c
        query = select(func.count()).where(s.campaign_id == self.campaign, s.person_id == person, s.verdict == "label")
        with self.database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def said(self, person: str, id: str) -> Answer | None:
        """This person's answer that stands."""
        s = standing.c
        query = select(s.verdict, s.value).where(
            s.campaign_id == self.campaign, s.person_id == person, s.sample_id == id
        )
        with self.database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Answer(*row)

    def answered(self, person: str, key: str) -> Answer | None:
        """What this person said with this key, whether or not it stands."""
        a = answers.c
        query = select(a.verdict, a.value).where(a.campaign_id == self.campaign, a.person_id == person, a.key == key)
        with self.database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Answer(*row)

    def classes(self) -> tuple[str, ...]:
        """Names by their numbers."""
        c = campaign_classes.c
        query = select(c.name).where(c.campaign_id == self.campaign).order_by(c.number)
        with self.database.read() as connection:
            return tuple(connection.execute(query).scalars())

    def of(self, id: str) -> Any:
        """Which question is that of this image."""
        return (questions.c.campaign_id == self.campaign) & (questions.c.sample_id == id)
