"""Shards that have changed or gone while people work are taken as they are now, once somebody says so."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mcdal.campaign.asked_shards import asked_about, changed, missing, take
from mcdal.campaign.definition import Opened
from mcdal.campaign.shards import ADVICE, CampaignShards, shards_of
from mcdal.errors import CampaignError
from mcdal.events import Listener, nobody
from mcdal.pool.streaming.format import Found
from mcdal.pool.streaming.index import Indexed
from mcdal.pool.streaming.listing import Terms, differences
from mcdal.pool.streaming.stored import Place

BY_ROW = (
    "which are told by their rows: their labels might become those of others. Put it back as it was; new images go into a new "
    "file, and a campaign that is begun with --id-column tells images by their ids"
)


@dataclass(frozen=True)
class Relisted:
    """changes: in words. images: before, and now. withdrawn: asked about no more, as they have gone."""

    changes: tuple[str, ...]
    images: tuple[int, int]
    withdrawn: int = 0


def relist(campaign: Opened, listen: Listener = nobody) -> Relisted:
    """Lists what has come, changed or gone. Labels stay with their ids; what has gone is asked about no more.

    CampaignError where there are no shards, and where labels would go to other images: those of Parquet files and Lance tables
    without a column of ids are told by their rows.
    """
    definition, cache = campaign.campaign, campaign.folder / "cache"
    if definition.kind is None:
        raise CampaignError(
            f"the images of {definition.name} are files of a folder, which every round looks at anew: there is nothing to list"
        )
    source = shards_of(definition, campaign.folder)
    shards = replace(source.shards(), relist=True)
    place = shards.place(cache)
    before = place.index.manifest() or []
    terms = Terms(True, True, ADVICE, lambda found: _refuse_other_rows(campaign, source, place, before, found))
    shards.listed(place, shards.joining(place, cache, source.split, terms, listen), listen)
    stored = source.stored(cache)
    take(campaign.ledger, {shard.name: shard.stamp for shard in stored.shards})
    waiting = campaign.ledger.open()
    gone = set(waiting) - stored.known(waiting)
    campaign.ledger.withdraw(sorted(gone))
    now = stored.shards
    return Relisted(tuple(differences(before, now)), (_images(before), _images(now)), len(gone))


def _refuse_other_rows(
    campaign: Opened, source: CampaignShards, place: Place, before: Sequence[Indexed], found: Sequence[Found]
) -> None:
    """A shard that has gone is no other image's; but the rows of a Lance table are elsewhere when it has been compacted."""
    if not source.by_row:
        return
    asked = asked_about(campaign.ledger)
    if others := changed(asked, found, place.format):
        raise CampaignError(
            f"{place.storage.url(others[0])} has changed, and people were asked about its images, {BY_ROW}"
        )
    known = {*asked, *(shard.name for shard in before)}
    if source.kind == "lance" and (away := missing(asked, found)) and any(shard.name not in known for shard in found):
        raise CampaignError(
            f"{place.storage.root} was compacted or written anew: {away[0]} has gone, and people were asked about its images, "
            f"{BY_ROW}"
        )


def _images(shards: Sequence[Indexed]) -> int:
    return sum(shard.samples for shard in shards)
