"""Checksums of shards: taken when one is first read whole, compared whenever it is read whole again."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator

from mcdal.errors import PoolError
from mcdal.pool.streaming.format import Bytes, Part
from mcdal.pool.streaming.index import Index, record_of


def summed(index: Index, part: Part, images: Iterable[Bytes], check: Callable[[], None]) -> Iterator[Bytes]:
    """The images as they come. PoolError with the last of them where they are not those of the first reading.

    check: raises where the shard's stamp is another one by now.

    A stamp tells what the store knows; this tells of bytes that changed without its knowing.
    """
    hasher = hashlib.blake2b(digest_size=16)
    for number, image in enumerate(images, 1):
        hasher.update(b"-" if image is None else len(image).to_bytes(8, "little"))
        hasher.update(image or b"")
        if number == len(part):
            check()
            _compare(index, part, hasher.hexdigest())
        yield image


def _compare(index: Index, part: Part, sum: str) -> None:
    if index.carried:  # the index is out of reach
        return
    name = record_of(part.shard, part.stamp, "sums")
    of = hashlib.blake2b(part.places.tobytes(), digest_size=8).hexdigest()
    sums: dict[str, str] = json.loads(index.root.read(name)) if index.root.exists(name) else {}
    if of not in sums:
        index.root.write(name, json.dumps({**sums, of: sum}).encode())
    elif sums[of] != sum:
        raise PoolError(
            f"the shard {part.shard} holds other bytes than when it was first read, although its stamp ({part.stamp}) is the "
            f"same: it is damaged, or was changed in place. Restore it; if it is meant, remove {index.root.url(name)}"
        )
