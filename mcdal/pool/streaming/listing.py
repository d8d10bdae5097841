"""Shards are listed into the index where they are not, and those that are not as they were are refused or taken."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from mcdal.errors import PoolError
from mcdal.events import Listener
from mcdal.pool.streaming.format import Format, Found
from mcdal.pool.streaming.index import Index, Indexed, file_of
from mcdal.pool.streaming.storage import Storage

NAMED = 10
ADVICE = (
    "put them back as they were, or start anew with --set source.relist=true; runs that began on the old ones do not go on with "
    "others"
)


def no_objection(_: object) -> None:
    """Nobody looks any closer."""


@dataclass(frozen=True)
class Terms:
    """What is taken that is not as it was listed.

    again: what has changed or gone is listed anew instead of refused. new: shards that have come are listed, and refused no more.
    advice: what is said of those that are refused. look: is shown all shards before any is listed; check: the list before it
    takes the place of the old one. Either may raise a McdalError, and the index stays as it was.
    """

    again: bool = False
    new: bool = False
    advice: str = ADVICE
    look: Callable[[Sequence[Found]], None] = no_objection
    check: Callable[[Sequence[Indexed]], None] = no_objection


def update(
    index: Index, storage: Storage, format: Format, threads: int, listen: Listener, terms: Terms
) -> list[Indexed]:  # fmt: skip
    """All shards of the index, listed where they are not. PoolError for shards that are not as they were."""
    found = format.find(storage, index.root, terms.again, listen)
    if not found:
        raise PoolError(f"{storage.root}: no shard found; see docs/shards.md for what is read")
    before = index.manifest() or []
    changes = differences(before, found) if before else []
    if not terms.again and (refused := differences(before, found, not terms.new) if changes else []):
        raise not_as_they_were(storage, refused, terms.advice)
    terms.look(found)
    there = index.listed() if before else frozenset()  # whoever makes room may have removed some
    known = {shard.name: shard for shard in before if file_of(shard.name, shard.stamp) in there}
    if before and not changes and len(known) == len(before):
        return before
    shards = _listed(index, storage, format, threads, listen, found, known)
    terms.check(shards)
    index.write_manifest(shards)
    return shards


def _listed(
    index: Index, storage: Storage, format: Format, threads: int, listen: Listener, found: Sequence[Found],
    known: dict[str, Indexed],
) -> list[Indexed]:  # fmt: skip
    """Each as the index has it, or listed now, several at once."""

    def listed(shard: Found) -> Indexed:
        kept = known.get(shard.name)
        if kept is not None and kept.stamp == shard.stamp:
            return kept
        return index.seen(shard) or index.write(shard, format.scan(storage, shard, index.root), format.place)

    made: dict[str, Indexed] = {}
    with ThreadPoolExecutor(threads, thread_name_prefix="scan") as pool:
        waiting = [pool.submit(listed, shard) for shard in found]
        try:
            for done, future in enumerate(as_completed(waiting)):
                listen("prepare", done=done, total=len(found), what=f"listing shards of {storage.name}")
                shard = future.result()
                made[shard.name] = shard
        except BaseException:
            for future in waiting:
                future.cancel()
            raise
    return [made[shard.name] for shard in found]


def differences(before: Sequence[Indexed], now: Sequence[Found | Indexed], new: bool = True) -> list[str]:
    """What has changed since, a sentence each. new: shards that have come are told too."""
    then, found = {shard.name: shard for shard in before}, {shard.name: shard for shard in now}
    said = [f"{name} has changed" for name in then if name in found and found[name].stamp != then[name].stamp]
    said += [f"{name} is missing" for name in then if name not in found]
    return said + [f"{name} is new" for name in found if new and name not in then]


def not_as_they_were(storage: Storage, changes: Sequence[str], advice: str) -> PoolError:
    more = [f"... and {len(changes) - NAMED} more"] if len(changes) > NAMED else []
    lines = [f"  {line}" for line in (*changes[:NAMED], *more)]
    return PoolError(
        "\n".join(
            [
                f"{storage.root}: {len(changes)} shards are not as they were when they were listed",
                *lines,
                advice,
            ]
        )
    )
