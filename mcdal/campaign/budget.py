"""A budget that is changed while people work: more labels, fewer, or none beyond those that are asked for now."""

from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import update

from mcdal.campaign.definition import Campaign, Opened, to_json
from mcdal.campaign.progress import PICKED
from mcdal.campaign_tables import campaigns
from mcdal.errors import CampaignError


def change_budget(campaign: Opened, budget: int) -> Campaign:
    """The campaign as it goes on. CampaignError for fewer labels than were asked for already."""
    asked = campaign.ledger.progress(arms=PICKED).asked
    if budget < max(asked, 1):
        raise CampaignError(
            f"--to {budget}: {asked} labels were asked for already; `mcdal campaign finish {campaign.folder}` ends it with those "
            "that are given"
        )
    start = min(campaign.campaign.start, budget)
    changed = replace(campaign.campaign, budget=budget, start=start, changed_at=datetime.now(UTC).isoformat())
    with campaign.database.write() as connection:
        where = campaigns.c.campaign_id == changed.name
        connection.execute(update(campaigns).where(where).values(config=to_json(changed, campaign.run_id)))
    return changed


def finish(campaign: Opened) -> int:
    """Asks for nothing more: what is open is withdrawn, and the last model learns from what was answered. Gives how many were.

    CampaignError before the first round was asked, which leaves nothing to learn from.
    """
    progress = campaign.ledger.progress(arms=PICKED)
    if not progress.labels:
        raise CampaignError(f"{campaign.folder}: there is no label yet, so there is nothing to finish")
    waiting = campaign.ledger.open()
    change_budget(campaign, progress.asked)
    campaign.ledger.withdraw(waiting, "ended")
    return len(waiting)
