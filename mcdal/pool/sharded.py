"""A pool in shards: parts that are read, measured and tried again as a whole, by whoever is free."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcdal.pool.base import Pool


@dataclass(frozen=True)
class Shard:
    """A part of a pool: a file, or some of a folder's."""

    name: str
    """Unique in its pool, and the same wherever the data lie; what is measured on the shard is filed under it."""
    size: int
    """Number of samples."""
    stamp: str
    """Changes when the content does, as far as its storage tells: bytes and time, or an entity tag."""


class Sharded(ABC):
    """All shards of a pool. It travels to other processes and machines (pickled), which open the shards that they are given."""

    shards: tuple[Shard, ...]

    @abstractmethod
    def pool(self, shard: Shard) -> "Pool":
        """One shard as a pool of its own, without test images. PoolError where it has changed since its stamp was taken."""

    @property
    def everywhere(self) -> bool:
        """Whether every machine that reaches the data can open its shards with what it holds itself."""
        return True

    def reaches(self, shard: Shard) -> bool:
        """Whether this machine can open the shard without what `carrying` brings."""
        return True

    def carrying(self, shards: Sequence[Shard]) -> "Sharded":
        """A copy for a machine that does not reach all that is needed beside the data: it brings that of these shards along."""
        return self
