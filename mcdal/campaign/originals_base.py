"""What the images of a campaign are, wherever they lie."""

import io
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TypeAlias

File: TypeAlias = io.BufferedReader | io.BytesIO


class Originals(ABC):
    """An id that is not there is a PoolError which names it."""

    @abstractmethod
    def count(self) -> int:
        """How many there are now."""

    @abstractmethod
    def known(self, ids: Collection[str]) -> set[str]:
        """Those of these ids that there are now."""

    @abstractmethod
    def audit(self) -> set[str]:
        """Those that there are now and are of the audit."""

    @abstractmethod
    def in_audit(self, ids: Sequence[str]) -> set[str]:
        """Those of these ids that are of the audit, whether they are there or not."""

    @abstractmethod
    def is_there(self, id: str) -> bool:
        """Whether it is one of the campaign's images now."""

    def can_be_read(self, id: str) -> bool:
        """Whether it can be shown now. PoolError where nothing can, as a store does not answer."""
        return self.is_there(id)

    @abstractmethod
    def version(self, id: str) -> str:
        """Changes with the image, so that nobody is shown an older one under the same address."""

    @abstractmethod
    def open(self, id: str) -> File:
        """The bytes of its file."""

    @abstractmethod
    def where(self) -> str:
        """Where they lie, for people."""

    @property
    def may_be_away(self) -> bool:
        """Whether many that are not there may be back in a minute, as a disk is away."""
        return True

    def each(self, ids: Iterable[str]) -> Iterator[bytes | None]:
        """The bytes of each; None of one that is not there any more."""
        for id in ids:
            if not self.is_there(id):
                yield None
                continue
            with self.open(id) as file:
                yield file.read()
