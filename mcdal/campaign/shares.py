"""How often each class is in the pool: from images that were drawn at random alone, since what a strategy picks is no sample."""

from collections import Counter
from dataclasses import dataclass

from mcdal.campaign.definition import Opened
from mcdal.campaign.judging import Share
from mcdal.campaign.ledger import Outcome


@dataclass(frozen=True)
class Shares:
    """Of `images` drawn at random that are answered. drawn: which they are, in words. cannot: what people could not tell."""

    images: int
    drawn: str
    classes: tuple[Share, ...]
    cannot: Share


def class_shares(campaign: Opened, outcomes: list[Outcome], audit: set[str]) -> Shares:
    """Audit and start images are a random sample of the pool together, each image as likely as another.

    The audit alone is taken where the start set is none: chosen by a cold start, older than images that were added (the audit
    takes its part of those), or partly given by a file. audit: ids, of images that have gone too.
    """
    definition = campaign.campaign
    chosen = any(path == "cold_start" for path, _ in definition.settings)
    both = len(audit) == definition.audit and not chosen and all(o.arm != "given" for o in outcomes)
    drawn = [o for o in outcomes if o.sample_id in audit or (both and o.arm == "start")]
    counted = [o for o in drawn if o.verdict != "withdrawn"]
    values = Counter(o.value for o in counted)
    n = len(counted)
    classes = tuple(Share.wilson(values[c], n) for c in range(len(campaign.ledger.classes())))
    words = "the audit and the start set" if both else "the audit"
    return Shares(n, words, classes, Share.wilson(values[None], n))
