"""Who is asked what, and what they say: every answer in one transaction, said twice it counts once.

A question is given to one person at a time (to as many as answers are wanted of it), by a lease that runs out. What was
answered is never changed: taking an answer back is a row as well, and `questions` and `standing` follow from these rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from mcdal.campaign.decide import Answer, decide
from mcdal.campaign.questions import Arm, Given, Outcome, Progress, Question, Receipt, plain, question_of
from mcdal.campaign.readings import Readings
from mcdal.campaign_tables import answers, campaign_classes, leases, people, questions, standing
from mcdal.dialects import insert_into
from mcdal.errors import CampaignError

__all__ = [
    "LEASE", "PRESENT", "VERDICTS", "Arm", "Given", "Ledger", "Outcome", "Progress", "Question", "Receipt", "plain",
]  # fmt: skip

LEASE = timedelta(minutes=10)
SKEW = timedelta(minutes=1)
"""The clocks of servers that share a campaign may be apart by so much."""
PRESENT = timedelta(hours=1)
"""Who has not asked for an image or answered for so long is waited for no more."""
VERDICTS = ("label", "cannot_tell", "skip")


@dataclass
class Ledger(Readings):
    """The questions and answers of one campaign in a store. now: the clock, for tests."""

    now: Any = field(default=lambda: datetime.now(UTC))

    # Questions

    def ask(self, asked: Sequence[Question]) -> None:
        """Adds those that are new. A question that is there stays as it is, whatever its round."""
        rows = [
            {
                "campaign_id": self.campaign, "sample_id": q.sample_id, "round": q.round, "rank": q.rank, "arm": q.arm,
                "wanted": q.wanted, "given": 0, "why": list(q.why), "guess": q.guess, "confidence": q.confidence,
                "asked_at": self._time(),
            }
            for q in asked
        ]  # fmt: skip
        if rows:
            with self.database.write() as connection:
                connection.execute(insert_into(connection, questions).on_conflict_do_nothing(), rows)

    def explain(self, told: Mapping[str, tuple[int | None, float | None, Sequence[str]]]) -> None:
        """Sets the guess, its confidence and the reasons of questions that are open."""
        with self.database.write() as connection:
            for id, (guess, confidence, why) in told.items():
                values = {"guess": guess, "confidence": confidence, "why": list(why)}
                connection.execute(update(questions).where(self.of(id)).values(**values))

    def withdraw(self, ids: Sequence[str], verdict: Literal["withdrawn", "ended"] = "withdrawn") -> None:
        """Closes questions that are asked no more: the image has gone, or the campaign is ended. What was answered stays."""
        closed = {"verdict": verdict, "value": None, "closed_at": self._time()}
        with self.database.write() as connection:
            for id in ids:
                connection.execute(
                    update(questions).where(self.of(id), questions.c.closed_at.is_(None)).values(**closed)
                )

    def reopen(self, ids: Sequence[str]) -> None:
        """Asks again about images that had gone and are back."""
        back = {"verdict": None, "value": None, "closed_at": None}
        with self.database.write() as connection:
            for id in ids:
                connection.execute(
                    update(questions).where(self.of(id), questions.c.verdict == "withdrawn").values(**back)
                )
                if self._row(connection, id).given:
                    self._settle(connection, id)

    def next(self, person: str, count: int, held: Sequence[str] = (), guessed: int | None = None) -> list[Question]:
        """Up to `count` questions for this person, leased to them; leases of what they hold are renewed.

        Open ones that have fewer answers and leases of others than wanted, in the order of rounds and ranks; those that the
        person skipped come after all others, those that they answered never. guessed: only those with this guess.
        """
        with self.database.write() as connection:
            # Not before: whoever waited for the others would take their leases for those of another clock.
            now = self._time()
            self._see(connection, person)
            self._renew(connection, person, held, now)
            found: list[Question] = []
            for query in self._free(person, held, guessed, now):
                if len(found) < count:
                    rows = connection.execute(query.limit(count - len(found)))
                    found += [question_of(row) for row in rows]
            self._lease(connection, person, [question.sample_id for question in found], now)
        return found

    def _free(
        self, person: str, held: Sequence[str], guessed: int | None, now: datetime
    ) -> tuple[Select[Any], Select[Any]]:
        """What `next` may give, the first first: what the person said nothing of, and what they skipped.

        Two queries, so that an index gives the first ones and the thousands behind them are not looked at.
        """
        q, mine, others = questions.c, standing.alias(), leases.alias()
        busy = (
            select(func.count())
            .select_from(others)
            .where(
                others.c.campaign_id == self.campaign, others.c.sample_id == q.sample_id, others.c.person_id != person,
                others.c.until > now, others.c.until <= now + LEASE + SKEW,  # of a clock that jumped back, a lease ends too
            )
            .scalar_subquery()
        )  # fmt: skip
        free = [q.campaign_id == self.campaign, q.closed_at.is_(None), q.given + busy < q.wanted]
        if held:
            free.append(q.sample_id.not_in(held))
        if guessed is not None:
            free.append(q.guess == guessed)
        on = (mine.c.campaign_id == self.campaign) & (mine.c.sample_id == q.sample_id) & (mine.c.person_id == person)
        said = select(mine.c.sample_id).where(on).exists()
        # All are open; the first column lets PostgreSQL see that the index has this order.
        new = select(questions).where(*free, ~said).order_by(q.closed_at, q.round, q.rank)
        skipped = select(questions).join(mine, on).where(*free, mine.c.verdict == "skip").order_by(mine.c.answer_id)
        return new, skipped

    # Answers

    def answer(self, person: str, given: Sequence[Given]) -> list[Receipt]:
        """Records these, in their order, in one transaction: when this returns they are on the disk."""
        with self.database.write() as connection:
            self._see(connection, person)
            classes = self._class_count(connection)
            return [self._answer(connection, person, each, classes) for each in given]

    def undo(self, person: str, key: str, of: str) -> tuple[Receipt, Question | None]:
        """Takes back an answer of this person; gives its question, which is leased to them again."""
        a = answers.c
        with self.database.write() as connection:
            if (before := self._known(connection, key)) is not None:
                if before.person_id != person:
                    return Receipt(key, "refused", "This key was used before."), None
                theirs = (a.campaign_id == self.campaign) & (a.key == of) & (a.person_id == person)
                row = connection.execute(select(a.sample_id).where(theirs)).first()
                again = None if row is None else self._row(connection, row[0])
                return Receipt(key, "repeated"), None if again is None else question_of(again)
            s = standing.c
            mine = select(standing).where(s.campaign_id == self.campaign, s.person_id == person, s.key == of)
            row = connection.execute(mine).one_or_none()
            if row is None:
                return Receipt(
                    key, "refused", "There is no such answer to take back: it was replaced, or is not yours."
                ), None
            if self._row(connection, row.sample_id).verdict == "withdrawn":
                return Receipt(key, "refused", "This image has gone: it is not asked about any more."), None
            self._record(connection, person, Given(key, row.sample_id, "undo"), takes_back=of)
            connection.execute(
                delete(standing).where(
                    s.campaign_id == self.campaign, s.sample_id == row.sample_id, s.person_id == person
                )
            )
            self._settle(connection, row.sample_id)
            self._lease(connection, person, [row.sample_id], self._time())
            question = self._row(connection, row.sample_id)
        return Receipt(key, "recorded"), None if question is None else question_of(question)

    def _answer(self, connection: Connection, person: str, given: Given, classes: int) -> Receipt:
        before = self._known(connection, given.key)
        if before is not None:
            same = (before.sample_id, before.person_id) == (given.sample_id, person)
            return (
                Receipt(given.key, "repeated") if same else Receipt(given.key, "refused", "This key was used before.")
            )
        if problem := self._problem(connection, given, classes):
            return Receipt(given.key, "refused", problem)
        number = self._record(connection, person, given)
        row = {
            "campaign_id": self.campaign, "sample_id": given.sample_id, "person_id": person, "answer_id": number,
            "verdict": given.verdict, "value": given.value, "key": given.key,
        }  # fmt: skip
        s = standing.c
        connection.execute(
            delete(standing).where(
                s.campaign_id == self.campaign, s.sample_id == given.sample_id, s.person_id == person
            )
        )
        connection.execute(insert(standing).values(**row))
        self._settle(connection, given.sample_id)
        lease = leases.c
        connection.execute(
            delete(leases).where(
                lease.campaign_id == self.campaign, lease.sample_id == given.sample_id, lease.person_id == person
            )
        )
        return Receipt(given.key, "recorded")

    def _problem(self, connection: Connection, given: Given, classes: int) -> str:
        """Why an answer cannot be kept; empty where it can."""
        if given.verdict not in VERDICTS:
            return f"{given.verdict!r} is no answer: label, cannot_tell or skip."
        if given.verdict == "label" and not (given.value is not None and 0 <= given.value < classes):
            return f"There is no class {given.value}."
        if given.verdict != "label" and given.value is not None:
            return f"A class goes with a label, not with {given.verdict}."
        row = self._row(connection, given.sample_id)
        if row is None:
            return f"Nobody asked about {given.sample_id!r}."
        return "This image has gone: it is not asked about any more." if row.verdict == "withdrawn" else ""

    def _record(self, connection: Connection, person: str, given: Given, takes_back: str | None = None) -> int:
        row = {
            "campaign_id": self.campaign, "sample_id": given.sample_id, "person_id": person, "verdict": given.verdict,
            "value": given.value, "seconds": given.seconds, "at": self._time(), "key": given.key, "takes_back": takes_back,
        }  # fmt: skip
        result = connection.execute(insert(answers).values(**row))
        assert result.inserted_primary_key is not None
        return int(result.inserted_primary_key[0])

    def _settle(self, connection: Connection, id: str) -> None:
        """What the standing answers of an image add up to now."""
        row = self._row(connection, id)
        assert row is not None
        s = standing.c
        query = (
            select(s.verdict, s.value).where(s.campaign_id == self.campaign, s.sample_id == id).order_by(s.answer_id)
        )
        said = [Answer(verdict, value) for verdict, value in connection.execute(query)]
        decision = decide(said, row.wanted, row.closed_at is not None, self._people(connection))
        values: dict[str, Any] = {
            "wanted": decision.wanted, "verdict": decision.verdict, "value": decision.value,
            "given": sum(answer.verdict != "skip" for answer in said),
        }  # fmt: skip
        same = (
            decision.closed
            and row.closed_at is not None
            and (row.verdict, row.value) == (decision.verdict, decision.value)
        )
        if not same:
            values["closed_at"] = self._time() if decision.closed else None
        connection.execute(update(questions).where(self.of(id)).values(**values))

    def settle(self) -> None:
        """Looks again at all open questions that have an answer: after somebody has left, some may wait for nobody."""
        q = questions.c
        query = select(q.sample_id).where(q.campaign_id == self.campaign, q.closed_at.is_(None), q.given > 0)
        with self.database.write() as connection:
            for id in connection.execute(query).scalars().all():
                self._settle(connection, id)

    # Classes

    def add_classes(self, names: Sequence[str]) -> None:
        """Behind those that there are, whose numbers and labels stay. CampaignError for a name that is there, or no name."""
        with self.database.write() as connection:
            there = set(connection.execute(
                select(campaign_classes.c.name).where(campaign_classes.c.campaign_id == self.campaign)
            ).scalars())  # fmt: skip
            for number, name in enumerate(names, len(there)):
                if not name.strip() or name in there:
                    raise CampaignError(f"the class {name!r} is {'there already' if name in there else 'empty'}")
                there.add(name)
                row = {"campaign_id": self.campaign, "number": number, "name": name, "added_at": self._time()}
                connection.execute(insert(campaign_classes).values(**row))

    # Inside

    def _row(self, connection: Connection, id: str) -> Any:
        return connection.execute(select(questions).where(self.of(id))).one_or_none()

    def _known(self, connection: Connection, key: str) -> Any:
        a = answers.c
        query = select(a.sample_id, a.person_id).where(a.campaign_id == self.campaign, a.key == key)
        return connection.execute(query).one_or_none()

    def _class_count(self, connection: Connection) -> int:
        query = select(func.count()).where(campaign_classes.c.campaign_id == self.campaign)
        return int(connection.execute(query).scalar_one())

    def _see(self, connection: Connection, person: str) -> None:
        where = (people.c.campaign_id == self.campaign) & (people.c.person_id == person)
        connection.execute(update(people).where(where).values(seen_at=self._time()))

    def _people(self, connection: Connection) -> int:
        """How many are at work and could answer; one at least, whoever it is that does."""
        p = people.c
        query = select(func.count()).where(
            p.campaign_id == self.campaign, p.removed_at.is_(None), func.coalesce(p.seen_at, p.joined_at) > self._time() - PRESENT
        )
        return max(1, int(connection.execute(query).scalar_one()))

    def _renew(self, connection: Connection, person: str, held: Sequence[str], now: datetime) -> None:
        lease = leases.c
        connection.execute(delete(leases).where(lease.campaign_id == self.campaign, lease.until <= now))
        if held:
            mine = (lease.campaign_id == self.campaign) & (lease.person_id == person) & lease.sample_id.in_(held)
            connection.execute(update(leases).where(mine).values(until=now + LEASE))

    def _lease(self, connection: Connection, person: str, ids: Sequence[str], now: datetime) -> None:
        rows = [
            {"campaign_id": self.campaign, "sample_id": id, "person_id": person, "until": now + LEASE} for id in ids
        ]
        if rows:
            statement = insert_into(connection, leases)
            primary = ["campaign_id", "sample_id", "person_id"]
            renewed = {"until": statement.excluded.until}
            connection.execute(statement.on_conflict_do_update(index_elements=primary, set_=renewed), rows)

    def _time(self) -> datetime:
        return plain(self.now())
