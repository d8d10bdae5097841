"""What random labeling would have labeled: of a campaign's labels, those that are a random sample of its pool."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from mcdal.campaign import ledger
from mcdal.campaign.copies import copied
from mcdal.campaign.definition import Opened
from mcdal.campaign_tables import questions
from mcdal.selection import uniform


@dataclass(frozen=True)
class Asked:
    """One image that was asked about, and its class where people gave one."""

    sample_id: str
    round: int
    arm: ledger.Arm
    value: int | None


def asked(campaign: Opened) -> list[Asked]:
    """All of the pool that was asked about, brought from files or taken over, round by round in the order of the ranks."""
    q = questions.c
    query = (
        select(q.sample_id, q.round, q.arm, q.value)
        .where(q.campaign_id == campaign.name, q.arm != "audit")
        .order_by(q.round, q.rank, q.sample_id)
    )
    with campaign.database.read() as connection:
        rows = [Asked(*row) for row in connection.execute(query)]
    rows += [Asked(copy.sample_id, copy.round, "given", copy.value) for copy in copied(campaign.ledger)]
    return sorted(rows, key=lambda row: row.round)


def random_arm(
    rows: Sequence[Asked], pool_size: int, round: int, seed: int, starts_at_random: bool = True
) -> list[Asked]:
    """A random sample without replacement of the whole pool, as far as labels of rounds up to this one allow.

    It begins with the start set, if that is a random sample. The control images of a later round were drawn among what had no
    label then; a draw among all images hits one of those that have a label already with the probability that is their share,
    and then it costs nothing.
    pool_size: images that might have been drawn. Of a pool that grew, earlier draws could not know the images of today.
    """
    arm = [row for row in rows if row.round == 0 and row.arm == "start" and starts_at_random]
    spare = [row for row in rows if row.round == 0 and not (row.arm == "start" and starts_at_random)]
    for number in range(1, round + 1):
        batch = [row for row in rows if row.round == number]
        free = pool_size - len(arm) - len(spare)
        drawn = [row for row in batch if row.arm == "control"]
        for row in drawn:
            while spare and uniform(seed, f"random/{len(arm)}") < len(spare) / (len(spare) + max(free, 1)):
                arm.append(spare.pop(int(uniform(seed, f"spare/{len(arm)}") * len(spare))))
            arm.append(row)
            free -= 1
        spare += [row for row in batch if row.arm != "control"]
    return arm
