"""Which shards people were asked about images of, and as what they were then: labels must not go to other images.

It lies in the store, as the index lies in a cache that may be removed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select, update

from mcdal.campaign.ledger import Ledger, plain
from mcdal.campaign_tables import asked_shards
from mcdal.dialects import insert_into
from mcdal.pool.streaming.format import Format, Found
from mcdal.pool.streaming.index import Indexed


@dataclass(frozen=True)
class Asked:
    """stamp: of the shard as people saw it. gone: whether somebody has said that it is there no more."""

    stamp: str
    gone: bool


def asked_about(ledger: Ledger) -> dict[str, Asked]:
    """By name of the shard."""
    s = asked_shards.c
    query = select(s.shard, s.stamp, s.gone_at).where(s.campaign_id == ledger.campaign)
    with ledger.database.read() as connection:
        return {row.shard: Asked(row.stamp, row.gone_at is not None) for row in connection.execute(query)}


def remember(ledger: Ledger, shards: Iterable[Indexed]) -> None:
    """Before people are asked about images in these. The stamp of one that is known stays."""
    rows = [{"campaign_id": ledger.campaign, "shard": s.name, "stamp": s.stamp, "gone_at": None} for s in shards]
    if rows:
        with ledger.database.write() as connection:
            statement = insert_into(connection, asked_shards)
            keys = ["campaign_id", "shard"]
            connection.execute(statement.on_conflict_do_update(index_elements=keys, set_={"gone_at": None}), rows)


def take(ledger: Ledger, found: Mapping[str, str]) -> None:
    """Somebody has said that shards are to be taken as they are now. found: stamps by name, of those that there are."""
    s, now = asked_shards.c, plain(datetime.now(UTC))
    with ledger.database.write() as connection:
        for name in connection.execute(select(s.shard).where(s.campaign_id == ledger.campaign)).scalars().all():
            values = {"stamp": found[name], "gone_at": None} if name in found else {"gone_at": now}
            connection.execute(
                update(asked_shards).where(s.campaign_id == ledger.campaign, s.shard == name).values(**values)
            )


def changed(asked: Mapping[str, Asked], found: Sequence[Found], format: Format) -> list[str]:
    """Names of shards whose images may be others than those that people saw."""
    now = {shard.name: shard.stamp for shard in found}
    return [name for name, seen in asked.items() if name in now and format.rows(now[name]) != format.rows(seen.stamp)]


def missing(asked: Mapping[str, Asked], found: Sequence[Found]) -> list[str]:
    """Names of those that there are no more, and nobody has said so."""
    now = {shard.name for shard in found}
    return [name for name, seen in asked.items() if name not in now and not seen.gone]
