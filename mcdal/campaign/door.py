"""Who may come in: invitations that expire, and the people who took one. Both are told by signed words, never by numbers."""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, insert, select, update

from mcdal.campaign.ledger import Ledger, plain
from mcdal.campaign_tables import invitations, people
from mcdal.errors import CampaignError

SESSION = timedelta(days=30)
LONGEST_NAME = 60


@dataclass(frozen=True)
class Person:
    """Somebody who answers."""

    person_id: str
    name: str


class Door:
    """Of one campaign. Its secret signs; whoever does not know it can neither make an invitation nor a session."""

    def __init__(self, ledger: Ledger, secret: str):
        from itsdangerous import URLSafeTimedSerializer

        self._ledger, self._campaign = ledger, ledger.campaign
        self._invitations = URLSafeTimedSerializer(secret, salt="invitation")
        self._sessions = URLSafeTimedSerializer(secret, salt="session")
        self._csrf = URLSafeTimedSerializer(secret, salt="csrf")

    def invite(self, uses: int = 1, days: float = 7.0, person: Person | None = None) -> str:
        """A token for a link: so many people may take it until then. person: it lets this one in again, on another device."""
        number = secrets.token_urlsafe(12)
        now = self._ledger.now()
        row = {
            "campaign_id": self._campaign, "invitation_id": number, "uses_left": uses, "made_at": plain(now),
            "expires_at": plain(now + timedelta(days=days)),
        }  # fmt: skip
        with self._ledger.database.write() as connection:
            connection.execute(insert(invitations).values(**row))
        return str(self._invitations.dumps([self._campaign, number, None if person is None else person.person_id]))

    def names(self, token: str) -> Person | None:
        """Whom an invitation is for; None for one that anybody may take. CampaignError where it is none, or no longer."""
        number, person_id = self._read(token)
        with self._ledger.database.read() as connection:
            self._check(connection.execute(self._invitation(number)).one_or_none())
        return None if person_id is None else self.person(person_id)

    def enter(self, token: str, name: str = "") -> Person:
        """Takes an invitation. CampaignError, with nothing used up, where it is none, or the name cannot be."""
        number, person_id = self._read(token)
        with self._ledger.database.write() as connection:
            row: Any = connection.execute(self._invitation(number)).one_or_none()
            self._check(row)
            if person_id is None:
                person = Person(secrets.token_urlsafe(12), _name(name))
                taken = select(people.c.name).where(
                    people.c.campaign_id == self._campaign, people.c.name == person.name
                )
                if connection.execute(taken).first() is not None:
                    raise CampaignError(
                        f"The name {person.name!r} is taken: take another, or ask for a link of your own."
                    )
                joined = {"campaign_id": self._campaign, "joined_at": plain(self._ledger.now()), **vars(person)}
                connection.execute(insert(people).values(**joined))
            left = invitations.c.invitation_id == number
            connection.execute(update(invitations).where(left).values(uses_left=row.uses_left - 1))
        if person_id is None:
            return person
        known = self.person(person_id)
        if known is None:
            raise CampaignError("This person was removed from the campaign.")
        return known

    def session(self, person: Person) -> str:
        """What the browser keeps."""
        return str(self._sessions.dumps([self._campaign, person.person_id, secrets.token_urlsafe(6)]))

    def who(self, session: str | None) -> Person | None:
        """Whose session this is; None for none, an old or a forged one, and for people who were removed."""
        from itsdangerous import BadSignature

        try:
            campaign, person_id, _ = self._sessions.loads(session or "", max_age=int(SESSION.total_seconds()))
        except (BadSignature, ValueError, TypeError):
            return None
        return self.person(person_id) if campaign == self._campaign else None

    def csrf(self, session: str) -> str:
        """A token that only pages of this session can know."""
        return str(self._csrf.dumps(session))

    def is_csrf(self, session: str, token: str | None) -> bool:
        from itsdangerous import BadSignature

        try:
            return bool(self._csrf.loads(token or "", max_age=int(SESSION.total_seconds())) == session)
        except (BadSignature, ValueError, TypeError):
            return False

    def person(self, person_id: str) -> Person | None:
        p = people.c
        query = select(p.person_id, p.name).where(
            p.campaign_id == self._campaign, p.person_id == person_id, p.removed_at.is_(None)
        )
        with self._ledger.database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Person(*row)

    def people(self) -> list[Person]:
        """All who have joined and were not removed, by name."""
        p = people.c
        query = select(p.person_id, p.name).where(p.campaign_id == self._campaign, p.removed_at.is_(None))
        with self._ledger.database.read() as connection:
            return [Person(*row) for row in connection.execute(query.order_by(p.name))]

    def named(self, name: str) -> Person:
        """The person of this name. CampaignError where there is none."""
        there = self.people()
        found = next((person for person in there if person.name == name), None)
        if found is None:
            known = ", ".join(person.name for person in there) or "nobody"
            raise CampaignError(f"nobody is called {name!r} here; there are: {known}")
        return found

    def remove(self, person: Person) -> None:
        """Ends all sessions of this person. What they answered stays."""
        p = people.c
        with self._ledger.database.write() as connection:
            where = (p.campaign_id == self._campaign) & (p.person_id == person.person_id)
            connection.execute(update(people).where(where).values(removed_at=plain(self._ledger.now())))
        self._ledger.settle()

    def _read(self, token: str) -> tuple[str, str | None]:
        from itsdangerous import BadSignature

        try:
            campaign, number, person_id = self._invitations.loads(token)
        except (BadSignature, ValueError, TypeError):
            campaign = number = person_id = None
        if campaign != self._campaign or not isinstance(number, str):
            raise CampaignError("This is no invitation to this campaign: ask for a new link.")
        return number, person_id

    def _invitation(self, number: str) -> Select[Any]:
        i = invitations.c
        return select(i.uses_left, i.expires_at).where(i.campaign_id == self._campaign, i.invitation_id == number)

    def _check(self, row: Any) -> None:
        if row is None or row.uses_left < 1:
            raise CampaignError("This invitation was used already: ask for a new link.")
        if row.expires_at <= plain(self._ledger.now()):
            raise CampaignError("This invitation has expired: ask for a new link.")


def _name(given: str) -> str:
    """As it is kept: one line. CampaignError for none, and for one that is too long."""
    name = " ".join("".join(c for c in given if c.isprintable()).split())
    if not name or len(name) > LONGEST_NAME:
        raise CampaignError(f"Give a name of 1 to {LONGEST_NAME} characters.")
    return name
