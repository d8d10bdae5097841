"""Images that take over the label of a near-duplicate, where a campaign wants that: nobody is asked about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import insert, select

from mcdal.campaign.ledger import Ledger, plain
from mcdal.campaign_tables import copies, questions


@dataclass(frozen=True)
class Copy:
    """sample_id: looks like `of`, by this much; `of` has the class `value`, and was asked about in this round."""

    sample_id: str
    of: str
    likeness: float
    value: int | None
    round: int


def copied(ledger: Ledger) -> list[Copy]:
    """All that have something to take over, or will have. Whoever is asked about an image after all counts more than a copy."""
    c, q, own = copies.c, questions.c, questions.alias()
    asked = (own.c.campaign_id == c.campaign_id) & (own.c.sample_id == c.sample_id)
    query = (
        select(c.sample_id, c.of, c.likeness, q.value, q.round)
        .join(questions, (q.campaign_id == c.campaign_id) & (q.sample_id == c.of))
        .outerjoin(own, asked)
        .where(c.campaign_id == ledger.campaign, own.c.sample_id.is_(None))
        .order_by(q.round, c.sample_id)
    )
    with ledger.database.read() as connection:
        return [Copy(*row) for row in connection.execute(query)]


def keep(ledger: Ledger, found: Mapping[str, tuple[str, float]]) -> None:
    """By id what each is a copy of, and how like it. Those that are kept already stay."""
    c, now = copies.c, plain(datetime.now(UTC))
    with ledger.database.write() as connection:
        there = set(connection.execute(select(c.sample_id).where(c.campaign_id == ledger.campaign)).scalars())
        rows = [
            {"campaign_id": ledger.campaign, "sample_id": id, "of": of, "likeness": likeness, "found_at": now}
            for id, (of, likeness) in found.items()
            if id not in there
        ]
        if rows:
            connection.execute(insert(copies), rows)
