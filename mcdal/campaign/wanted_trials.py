"""Which trials a campaign makes to tell what random labeling would have given, and which of them there are."""

from typing import Literal

from sqlalchemy import select

from mcdal.campaign.definition import Campaign, Opened
from mcdal.campaign_tables import trials

Arm = Literal["picked", "random"]
"""Whose labels a model learned from: all of the campaign, or those of the random sample."""

OF_HEADS = 5
"""Trainings on each set of labels where only a head is trained; of whole networks one, which takes as long as a round."""


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
