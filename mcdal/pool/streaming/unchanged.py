"""Whether a shard is still what it was when it was listed: asked after a reading, before anything is kept by its stamp."""

from mcdal.errors import PoolError
from mcdal.pool.streaming.format import Format
from mcdal.pool.streaming.storage import RELIST, Storage


def check_unchanged(storage: Storage, format: Format, shard: str, stamp: str) -> None:
    """PoolError where another one lies there by now: what was read may be of that. Of a store one request."""
    now = format.stamp_after(storage, shard)
    if now is not None and now != stamp:
        raise PoolError(
            f"the shard {storage.url(shard)} has changed while it was read ({stamp} when it was listed, {now} now): {RELIST}"
        )
