"""A budget that is changed while people work: more labels, fewer, or none beyond those that are asked for now."""

from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import update

from mcdal.campaign.definition import Campaign, Opened, to_json
from mcdal.campaign.progress import PICKED
from mcdal.campaign_tables import campaigns
from mcdal.errors import CampaignError


def change_budget(campaign: Opened, budget: int) -> Campaign:
    """The campaign as it goes on; what `finish` had ended is asked again where there is more to spend.

    CampaignError for fewer labels than were asked for already, or than the first round takes.
    """
    asked = campaign.ledger.wanted(PICKED)
    if budget < asked:
        raise CampaignError(
            f"--to {budget}: {asked} labels were asked for already; `mcdal campaign finish {campaign.folder}` ends it with those "
            "that are given"
        )
    if budget < campaign.campaign.start:
        raise CampaignError(f"--to {budget}: the first round takes {campaign.campaign.start} labels")
    changed = _write(campaign, budget)
    if budget > asked:
        campaign.ledger.reopen_ended()
    return changed


def finish(campaign: Opened) -> int:
    """Asks for nothing more; the last model learns from what was answered. Gives how many images are asked about no more.

    An image with fewer answers than were wanted of it takes what it has. CampaignError without a label to learn from, or without
    one of an audit image to judge by.
    """
    ledger = campaign.ledger
    ledger.take_what_there_is()
    for arms, what in ((PICKED, "there is no label yet"), (("audit",), "no audit image has a label yet")):
        if not ledger.progress(arms=arms).labels:
            raise CampaignError(f"{campaign.folder}: {what}: give a few first")
    # First: a trainer that is picking now asks no more.
    _write(campaign, max(ledger.wanted(PICKED), campaign.campaign.start))
    waiting = ledger.open()
    ledger.withdraw(waiting, "ended")
    _write(campaign, max(ledger.wanted(PICKED), campaign.campaign.start))
    return len(waiting)


def _write(campaign: Opened, budget: int) -> Campaign:
    changed = replace(campaign.campaign, budget=budget, changed_at=datetime.now(UTC).isoformat())
    with campaign.database.write() as connection:
        where = campaigns.c.campaign_id == changed.name
        connection.execute(update(campaigns).where(where).values(config=to_json(changed, campaign.run_id)))
    return changed
