"""All that a data-set card tells."""

from collections.abc import Mapping
from dataclasses import dataclass

from mcdal.campaign.definition import Opened
from mcdal.campaign.judging import Audit
from mcdal.campaign.ledger import Outcome
from mcdal.campaign.records import Labels
from mcdal.campaign.shares import Shares


@dataclass(frozen=True)
class Facts:
    """called: people by what the card calls them; empty where by their names. images: that there are now.

    audit: what the newest model is worth; None where it was not judged, and `unjudged` says why. sums: SHA-256 by file.
    """

    campaign: Opened
    labels: Labels
    called: Mapping[str, str]
    outcomes: list[Outcome]
    images: int
    shares: Shares
    audit: Audit | None
    unjudged: str
    sums: Mapping[str, str]
