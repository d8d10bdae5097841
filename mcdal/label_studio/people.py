"""Users of Label Studio as people of a campaign: the same person whichever project they answer in."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import insert, select, update

from mcdal.campaign.door import LONGEST_NAME
from mcdal.campaign.ledger import Ledger, plain
from mcdal.campaign_tables import people

PREFIX = "ls-"


class Users:
    """Finds or makes the person of each user. users: as the server lists them; who is not among them has left it.

    A person is told by the e-mail address, which stays over projects and servers; nobody is taken for somebody of the same name
    who came in by the campaign's own page.
    """

    def __init__(self, ledger: Ledger, users: Mapping[int, Mapping[str, Any]]):
        self._ledger, self._users = ledger, users
        self._known: dict[str, bool] = {}  # whether they were removed

    def person(self, user: int | None) -> str:
        """The person's id."""
        found = self._users.get(user) if user is not None else None
        email = str(found.get("email") or "") if found else ""
        told = email.lower() or f"user {user}"
        id = PREFIX + hashlib.blake2b(told.encode(), digest_size=9).hexdigest()
        if id not in self._known:
            self._known[id] = self._is_removed(id, _names(found or {}, email, user))
        return id

    def is_removed(self, person: str) -> bool:
        """Whether `mcdal campaign remove` has ended their work."""
        return self._known[person]

    def see(self, persons: Iterable[str]) -> None:
        """They are at work: who may still be asked is judged by all who have answered by now, not by the first of them."""
        p = people.c
        where = (p.campaign_id == self._ledger.campaign) & p.person_id.in_(sorted(set(persons)))
        with self._ledger.database.write() as connection:
            connection.execute(update(people).where(where).values(seen_at=plain(self._ledger.now())))

    def _is_removed(self, id: str, names: list[str]) -> bool:
        p, campaign = people.c, self._ledger.campaign
        with self._ledger.database.write() as connection:
            there = connection.execute(
                select(p.removed_at).where(p.campaign_id == campaign, p.person_id == id)
            ).one_or_none()  # fmt: skip
            if there is not None:
                return there.removed_at is not None
            taken = set(connection.execute(select(p.name).where(p.campaign_id == campaign)).scalars())
            name = next((name for name in names if name not in taken), id)
            row = {"campaign_id": campaign, "person_id": id, "name": name, "joined_at": plain(self._ledger.now())}
            connection.execute(insert(people).values(**row))
        return False


def _names(user: Mapping[str, Any], email: str, number: int | None) -> list[str]:
    """What a person may be called, the best first."""
    full = " ".join(f"{user.get('first_name') or ''} {user.get('last_name') or ''}".split())
    plainest = (
        full or email or ("a user who has left Label Studio" if number is None else f"user {number} of Label Studio")
    )
    wanted = (plainest, f"{plainest} (Label Studio)", email, f"{plainest} ({number})")
    return [name[:LONGEST_NAME] for name in wanted if name]
