"""What random labeling would have labeled: of a campaign's labels, those that are a random sample of its pool."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select

from mcdal.campaign import ledger
from mcdal.campaign.copies import copied
from mcdal.campaign.definition import Campaign, Opened
from mcdal.campaign_tables import questions, trials
from mcdal.selection import uniform

Arm = Literal["picked", "random"]
"""Whose labels a model learned from: all of the campaign, or those of the random sample."""

OF_HEADS = 5
"""Trainings on each set of labels where only a head is trained; of whole networks one, which takes as long as a round."""


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


def random_arm(rows: Sequence[Asked], pool_size: int, round: int, seed: int) -> list[Asked]:
    """A random sample without replacement of the whole pool, as far as labels of rounds up to this one allow.

    It begins with the start set. The control images of a later round were drawn among what had no label then; a draw among all
    images hits one of those that have a label already with the probability that is their share, and then it costs nothing.
    pool_size: images that might have been drawn. Of a pool that grew, earlier draws could not know the images of today.
    """
    arm = [row for row in rows if row.round == 0 and row.arm == "start"]
    spare = [row for row in rows if row.round == 0 and row.arm != "start"]  # labeled, and not in the arm
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


def wanted(campaign: Campaign, round: int) -> list[tuple[Arm, int]]:
    """The trials of a round: arm, and number of the repeat. In the start set both arms are one; without control there is one."""
    repeats = range(1 if campaign.encoder is None else OF_HEADS)
    arms: tuple[Arm, ...] = ("picked", "random") if campaign.control and round else ("picked",)
    return [(arm, repeat) for repeat in repeats for arm in arms]


def tried(campaign: Opened) -> frozenset[tuple[int, str, int]]:
    """The trials that there are: round, arm and repeat."""
    t = trials.c
    query = select(t.round, t.arm, t.repeat).where(t.campaign_id == campaign.name)
    with campaign.database.read() as connection:
        return frozenset((round, arm, repeat) for round, arm, repeat in connection.execute(query))


def untried(campaign: Opened, finished: int) -> bool:
    """Whether a trial of the newest finished round is missing. finished: rounds."""
    if not finished:
        return False
    done = tried(campaign)
    return any((finished - 1, arm, repeat) not in done for arm, repeat in wanted(campaign.campaign, finished - 1))
