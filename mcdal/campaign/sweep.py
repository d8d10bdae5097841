"""Images that are asked about and have gone from the folder, or are back in it."""

from mcdal.campaign.definition import Opened

FEW_GONE = 0.05
"""Of the open images, and three at least: so many may have been removed by somebody; more are a disk that is away."""


def sweep(campaign: Opened) -> str:
    """Asks no more about images that were removed, and again about those that are back; says where too many are away.

    Nothing is withdrawn while the folder, or much of it, cannot be seen: a disk may be away for a minute. Of shards somebody has
    said that they have gone.
    """
    from mcdal.campaign.originals import originals_of  # with torch, which whoever only imports this does without

    originals = originals_of(campaign)
    ledger, waiting = campaign.ledger, campaign.ledger.open()
    gone = [id for id in waiting if not originals.is_there(id)]
    if originals.may_be_away and len(gone) > max(3, FEW_GONE * len(waiting)):
        return f"{len(gone)} images of this round are away: is {originals.where()} there?"
    ledger.withdraw(gone)
    ledger.reopen([id for id in ledger.withdrawn() if originals.is_there(id)])
    return ""
