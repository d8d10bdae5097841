"""Images that turn out to be bad while a shard is read: an error, or a record with the reason."""

import json
import threading
from collections.abc import Callable

from mcdal.errors import PoolError
from mcdal.pool.base import Quarantined
from mcdal.pool.decode import Bad, BadImages
from mcdal.pool.streaming.index import Index, record_of


class Aside:
    """Of one shard. Those that earlier readings found are known from the beginning.

    check: raises where the shard is not what it was, so that nothing is kept of another one's images.
    """

    def __init__(self, index: Index, shard: str, stamp: str, bad_images: BadImages, check: Callable[[], None]):
        self._check = check
        self._index, self._shard, self._refuse = index, shard, bad_images == "refuse"
        self._file = record_of(shard, stamp, "aside")
        self._lock = threading.Lock()
        self._found: dict[str, str] = {} if self._refuse else self._read()
        self._saved = len(self._found)

    def __contains__(self, id: str) -> bool:
        return id in self._found

    def __len__(self) -> int:
        return len(self._found)

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """So far, in the order of their ids."""
        with self._lock:
            return tuple(Quarantined(id, reason) for id, reason in sorted(self._found.items()))

    def note(self, id: str, bad: Bad) -> None:
        """PoolError where bad images are refused."""
        if self._refuse:
            other = " or, as it can be, convert it with --set source.bad_images=convert" if bad.convertible else ""
            raise PoolError(
                f"{self._shard}: {id}: {bad.reason}; mend or remove it, or set such images aside with "
                f"--set source.bad_images=quarantine{other}"
            )
        with self._lock:
            self._found[id] = bad.reason

    def save(self) -> None:
        """Onto the index, if there is anything new and this process can reach it."""
        with self._lock:
            if len(self._found) == self._saved or self._index.carried:
                return
            self._check()
            merged = self._read() | self._found
            self._index.root.write(self._file, json.dumps(merged, sort_keys=True).encode())
            self._saved = len(self._found)

    def _read(self) -> dict[str, str]:
        if self._index.carried or not self._index.root.exists(self._file):
            return {}
        found: dict[str, str] = json.loads(self._index.root.read(self._file))
        return found
