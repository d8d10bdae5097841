"""What a pass has measured: read again shard by shard, so that memory holds one part of one file."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from mcdal.errors import StoreError
from mcdal.passes.folder import Folder
from mcdal.passes.shard_files import ROWS_AT_ONCE, DamagedError, Found, about, file_of, opened
from mcdal.pool.base import Quarantined
from mcdal.pool.sharded import Shard


@dataclass(frozen=True)
class Part:
    """Some rows of one shard. ids: an Arrow array, since most of them are never looked at. score: None where none is measured."""

    shard: str
    ids: pa.Array
    score: Float[np.ndarray, " n"] | None


@dataclass(frozen=True)
class Measured:
    """The files of a finished pass, in the order of the shards."""

    folder: Folder
    shards: tuple[Shard, ...]
    found: tuple[Found, ...]
    resumed: int = 0
    """Shards that an earlier pass had measured."""

    def __len__(self) -> int:
        """Rows: all samples but those that were set aside."""
        return sum(found.rows for found in self.found)

    @property
    def scored(self) -> bool:
        """Whether there is a score."""
        return all(found.scored for found in self.found)

    @property
    def quarantined(self) -> tuple[Quarantined, ...]:
        """Images of all shards that could not be measured, and why."""
        return tuple(q for found in self.found for q in found.quarantined)

    def parts(self) -> Iterator[Part]:
        """Every row once. StoreError where a file has been damaged since."""
        for shard, found in zip(self.shards, self.found, strict=True):
            try:
                yield from self._of(shard, found)
            except (DamagedError, OSError, pa.ArrowException) as error:
                raise StoreError(
                    f"{self.folder}/{file_of(shard.name)} is damaged ({error}): run the same command again, and its shard is "
                    "measured again"
                ) from error

    def _of(self, shard: Shard, found: Found) -> Iterator[Part]:
        content = self.folder.read(file_of(shard.name))
        if content is None:
            raise DamagedError("it is missing")
        file = opened(content)
        if dict(about(file).tags) != dict(found.tags):
            raise DamagedError("another pass has written it since")
        for batch in file.iter_batches(ROWS_AT_ONCE):
            score = batch.column("score").to_numpy(zero_copy_only=False) if found.scored else None
            yield Part(shard.name, batch.column("sample_id"), score)
