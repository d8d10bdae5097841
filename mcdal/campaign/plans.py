"""A campaign as a run of the loop: its recipe, and how it begins."""

import math
import secrets
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert, select

from mcdal.campaign.arms import Easy, Newcomers
from mcdal.campaign.definition import Campaign, to_json
from mcdal.campaign.images import CampaignImages
from mcdal.campaign.ledger import Ledger, plain
from mcdal.campaign.shards import shards_of
from mcdal.campaign_tables import campaigns
from mcdal.config import Config, Protocol
from mcdal.database import Database
from mcdal.errors import CampaignError
from mcdal.plan import Plan
from mcdal.pool.base import Source
from mcdal.recipes.base import frozen, paper, small
from mcdal.registry import load
from mcdal.settings import canonical, override
from mcdal.training import Training
from mcdal.warm_start import StartWeights, check_fits

EPOCHS, STEPS = 50, 100
NEW_SHARE = 0.3
"""Of a batch: images that are likely of a class that was added while people work."""
Z = 1.96
"""Deviations of the normal distribution that 95 % lie within."""


def audit_size(wanted: float) -> int:
    """How many images make the half width of the accuracy's interval `wanted` at worst, .05 for 385; 1 and more are a number."""
    if wanted >= 1 and wanted == int(wanted):
        return int(wanted)
    if not 0 < wanted < 0.5:
        raise CampaignError(
            f"--audit {wanted}: give the half width of an interval, such as 0.05, or a number of images"
        )
    return math.ceil((Z / (2 * wanted)) ** 2)


def plan_of(campaign: Campaign, folder: Path) -> Plan:
    """The run that a campaign in this folder is."""
    config = replace(
        paper(source_of(campaign, folder), load("strategies", campaign.strategy)()),
        training=Training(epochs=EPOCHS, steps_per_epoch=STEPS),
        protocol=Protocol(
            campaign.start, campaign.batch, campaign.rounds, total=campaign.budget, control=campaign.control,
            per_group=campaign.per_group, near=campaign.near, easy=campaign.easy,
            rare=new_share(campaign),
        ),
        easy=Easy() if campaign.easy else None,
        rare=Newcomers(campaign.classes) if campaign.classes else None,
        groups=campaign.groups, costs=campaign.costs,
    )  # fmt: skip
    if campaign.scale == "small":
        config = small(config)
    if campaign.encoder is not None:
        config = frozen(config, load("encoders", campaign.encoder)())
    given = dict(campaign.settings)
    made: Config = override(config, given)
    return Plan(made, campaign.seed, campaign.name, campaign.scale, canonical(made, given), campaign.strategy)


def source_of(campaign: Campaign, folder: Path) -> Source:
    """Where a campaign in this folder has its images."""
    if campaign.kind is not None:
        return shards_of(campaign, folder)
    data = Path(campaign.images)
    return CampaignImages(data, folder, campaign.name, campaign.seed, campaign.audit_below, campaign.size)


def new_share(campaign: Campaign) -> float:
    """Of a batch: images that are likely of a class that was added. Campaigns of before did without."""
    left = 1 - campaign.control - campaign.easy
    return min(NEW_SHARE, left / 2) if campaign.classes else 0.0


def check(campaign: Campaign, folder: Path, classes: list[str]) -> Plan:
    """The run that it would be: what cannot be is said before anything is written."""
    if len(classes) < 2:
        raise CampaignError(
            f"{len(classes)} class given: two are the least to tell apart (--classes names those that people choose from; labels "
            "that lie beside images are not read)"
        )
    plan = plan_of(campaign, folder)
    if plan.config.weights is not None:
        check_fits(StartWeights.read(plan.config.weights), plan.config.model, len(classes), campaign.size)
    return plan


def begin(folder: Path, campaign: Campaign, classes: list[str], url: str | None = None) -> None:
    """Makes the store of a campaign, in the database of this URL if one is given.

    CampaignError where there is one in this folder or database, or the classes cannot be.
    """
    plan = check(campaign, folder, classes)
    database = Database(folder, url=url, remember=False)
    try:
        with database.read() as connection:
            there = connection.execute(select(campaigns.c.campaign_id)).scalars().first()
        if there is not None:
            other = "another database, or `mcdal campaign join`" if database.shared else "another folder"
            raise CampaignError(f"{database.name} holds the campaign {there!r} already: give {other}")
        database.remember()
        row = {
            "campaign_id": campaign.name, "config": to_json(campaign, plan.run_id), "secret": secrets.token_urlsafe(32),
            "created_at": plain(datetime.now(UTC)),
        }  # fmt: skip
        with database.write() as connection:
            connection.execute(insert(campaigns).values(**row))
        Ledger(database, campaign.name).add_classes(classes)
    finally:
        database.close()
