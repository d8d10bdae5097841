"""Shards that have changed or gone while people work are taken as they are now, once somebody says so."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mcdal.campaign.definition import Opened
from mcdal.campaign.shards import ADVICE, shards_of
from mcdal.errors import CampaignError
from mcdal.events import Listener, nobody
from mcdal.pool.streaming.format import Found
from mcdal.pool.streaming.index import Indexed, differences
from mcdal.pool.streaming.stored import Place


@dataclass(frozen=True)
class Relisted:
    """changes: in words. images: before, and now."""

    changes: tuple[str, ...]
    images: tuple[int, int]


def relist(campaign: Opened, listen: Listener = nobody) -> Relisted:
    """Lists what has come, changed or gone. Labels stay with their ids; what has gone is asked about no more.

    CampaignError where there are no shards, and where labels would go to other images: those of a Parquet file without a column
    of ids are told by their rows.
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
    found = place.format.find(place.storage, place.index.root, True, listen)
    if definition.kind == "parquet" and definition.id_column is None:
        _refuse_other_rows(campaign, place, before, found)
    now = shards.listed(place, ADVICE, listen)
    shards.stored(cache, source.split, listen)
    return Relisted(tuple(differences(before, now)), (_images(before), _images(now)))


def _refuse_other_rows(campaign: Opened, place: Place, before: Sequence[Indexed], found: Sequence[Found]) -> None:
    stamps = {shard.name: shard.stamp for shard in found}
    for shard in before:
        if stamps.get(shard.name, shard.stamp) == shard.stamp:
            continue
        asked = campaign.ledger.known(place.index.read(shard, ["sample_id"]).ids.to_pylist())
        if asked:
            raise CampaignError(
                f"{place.storage.url(shard.name)} has changed, and people were asked about {len(asked)} of its images, which are "
                "told by their rows: their labels might become those of others. Put it back as it was; new images go into a new "
                "file, and a campaign that is begun with --id-column tells images by their ids"
            )


def _images(shards: Sequence[Indexed]) -> int:
    return sum(shard.samples for shard in shards)
