"""The labels of a campaign as rows of plain values, with the checksum of each image: what every format is made of."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from mcdal.campaign.definition import Opened
from mcdal.campaign.originals import originals_of
from mcdal.campaign.originals_base import Originals
from mcdal.campaign.rows import Labeled, did, labeled
from mcdal.campaign.showing import Pictures
from mcdal.errors import PoolError

COLUMNS = ("sample_id", "label", "number", "by", "answers", "at", "round", "arm", "sha256")


@dataclass(frozen=True)
class Record:
    """One image. by: people, as they are to be called. at: ISO 8601. arm: why it was asked; "audit" is for tests alone.

    sha256: of the file; empty of an image that has gone.
    """

    sample_id: str
    label: str
    number: int
    by: str
    answers: int
    at: str
    round: int
    arm: str
    sha256: str


@dataclass(frozen=True)
class Labels:
    """All of them, of one campaign. called: what people are called here, by their names; others keep them."""

    campaign: Opened
    called: Mapping[str, str]

    @cached_property
    def rows(self) -> list[Labeled]:
        return labeled(self.campaign)

    @cached_property
    def records(self) -> list[Record]:
        """In the order of the ids."""
        return [
            Record(
                row.sample_id, row.label, row.number, " and ".join(self.called.get(name, name) for name in row.by),
                row.answers, row.at.isoformat(), row.round, row.arm, self._read[row.sample_id][0],
            )
            for row in self.rows
        ]  # fmt: skip

    @cached_property
    def originals(self) -> Originals:
        return originals_of(self.campaign)

    @cached_property
    def pictures(self) -> Pictures:
        return Pictures.of(self.campaign)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        return self.campaign.ledger.classes()

    @property
    def gone(self) -> tuple[str, ...]:
        """Ids of images that have a label and are not in the folder any more."""
        return tuple(record.sample_id for record in self.records if not record.sha256)

    def bytes_of(self, id: str) -> int:
        """Of the file; 0 of an image that has gone."""
        return self._read[id][1]

    def size(self, id: str) -> tuple[int, int]:
        """Width and height of the file; 0, 0 of an image that has gone."""
        try:
            return self.pictures.size(id, shown=False)
        except PoolError:
            return 0, 0

    @cached_property
    def _read(self) -> dict[str, tuple[str, int]]:
        """Checksum and length of each image, all read once."""
        ids = [row.sample_id for row in self.rows]
        return {
            id: ("", 0) if content is None else (hashlib.sha256(content).hexdigest(), len(content))
            for id, content in zip(ids, self.originals.each(ids), strict=True)
        }


def anonymous(campaign: Opened) -> dict[str, str]:
    """A number for every name, the one who gave most labels first."""
    order = sorted(did(campaign), key=lambda person: (-person.labels, person.name))
    return {person.name: f"person {i}" for i, person in enumerate(order, 1)}
