"""Before people are asked about images in shards, the store notes as what these lie there."""

from collections.abc import Sequence

from mcdal.campaign.asked_shards import remember
from mcdal.campaign.definition import Opened
from mcdal.campaign.shards import shards_of


def note_shards(campaign: Opened, ids: Sequence[str]) -> None:
    """Of files in folders nothing: their ids are paths."""
    definition = campaign.campaign
    if definition.kind not in (None, "files"):
        stored = shards_of(definition, campaign.folder).stored(campaign.folder / "cache")
        remember(campaign.ledger, stored.shards_of(ids))
