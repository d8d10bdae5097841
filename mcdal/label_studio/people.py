"""Users of Label Studio as people of a campaign: the same person whichever project they answer in."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import insert, select, update

from mcdal.campaign.door import LONGEST_NAME
from mcdal.campaign.ledger import Ledger, plain
from mcdal.campaign_tables import people
from mcdal.label_studio.client import Client
from mcdal.label_studio.http import Json

PREFIX = "ls-"
LEFT = "a user who has left Label Studio"


class Users:
    """Finds or makes the person of each annotation.

    recorded: whose the annotations of before were, by task and annotation: that stays, whatever has become of the user since.
    Others are told by the user's e-mail address, which stays over projects and servers; of users who have left there is none.
    Nobody is taken for somebody of the same name who came in by the campaign's own page.
    """

    def __init__(self, ledger: Ledger, client: Client, recorded: Mapping[tuple[int, int], str], tasks: Sequence[Json]):
        self._ledger, self._client, self._recorded = ledger, client, recorded
        self._users: dict[int, Json] | None = None
        self._removed = _removed(ledger)
        self._of: dict[int, str] = {}  # who a user is, by what was recorded: an address may have been changed
        for task in tasks:
            for annotation in task.get("annotations") or []:
                user, person = user_of(annotation), recorded.get((int(task["id"]), int(annotation["id"])))
                if user is not None and person is not None:
                    self._of.setdefault(user, person)

    def author(self, task: int, annotation: Json) -> str:
        """The person's id."""
        number, user = int(annotation["id"]), user_of(annotation)
        person = self._recorded.get((task, number))
        if person is None and user is not None:
            person = self._of.get(user)
        return person if person is not None else self._person(user, task, number)

    def is_removed(self, person: str) -> bool:
        """Whether `mcdal campaign remove` has ended their work."""
        return self._removed[person]

    def see(self, persons: Iterable[str]) -> None:
        """They are at work: who may still be asked is judged by all who have answered by now, not by the first of them."""
        p = people.c
        where = (p.campaign_id == self._ledger.campaign) & p.person_id.in_(sorted(set(persons)))
        with self._ledger.database.write() as connection:
            connection.execute(update(people).where(where).values(seen_at=plain(self._ledger.now())))

    def _person(self, user: int | None, task: int, annotation: int) -> str:
        """Of what was never recorded."""
        if self._users is None:
            self._users = self._client.users()
        found = self._users.get(user) if user is not None else None
        email = str(found.get("email") or "") if found else ""
        server = self._client.url
        unknown = f"{task}/{annotation}/{server}" if user is None else f"user {user} of {server}"
        id = PREFIX + hashlib.blake2b((email.lower() or unknown).encode(), digest_size=9).hexdigest()
        if id not in self._removed:
            self._join(id, _names(found or {}, email, user, annotation))
            self._removed[id] = False
        if user is not None:
            self._of[user] = id
        return id

    def _join(self, id: str, names: list[str]) -> None:
        p, campaign = people.c, self._ledger.campaign
        with self._ledger.database.write() as connection:
            taken = set(connection.execute(select(p.name).where(p.campaign_id == campaign)).scalars())
            name = next((name for name in names if name not in taken), id)
            row = {"campaign_id": campaign, "person_id": id, "name": name, "joined_at": plain(self._ledger.now())}
            connection.execute(insert(people).values(**row))


def user_of(annotation: Mapping[str, Any]) -> int | None:
    """A number in lists, an object in single tasks; nobody where the user was deleted."""
    by = annotation.get("completed_by")
    by = by.get("id") if isinstance(by, dict) else by
    return int(by) if isinstance(by, int) else None


def _removed(ledger: Ledger) -> dict[str, bool]:
    """Everybody who ever joined, and whether they were removed."""
    p = people.c
    with ledger.database.read() as connection:
        rows = connection.execute(select(p.person_id, p.removed_at).where(p.campaign_id == ledger.campaign))
        return {row.person_id: row.removed_at is not None for row in rows}


def _names(user: Mapping[str, Any], email: str, number: int | None, annotation: int) -> list[str]:
    """What a person may be called, the best first."""
    full = " ".join(f"{user.get('first_name') or ''} {user.get('last_name') or ''}".split())
    plainest = full or email or (LEFT if number is None else f"user {number} of Label Studio")
    told = f"annotation {annotation}" if number is None else str(number)
    wanted = (plainest, f"{plainest} (Label Studio)", email, f"{plainest} ({told})")
    return [name[:LONGEST_NAME] for name in wanted if name]
