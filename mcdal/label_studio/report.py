"""What a pull found, for people."""

from collections import Counter
from dataclasses import dataclass, field

from mcdal.campaign.ledger import Receipt

NAMED = 5
COUNTED = ("new", "corrected", "deleted", "late", "asked again")
WORDS = {
    "foreign": "{n} annotations of tasks without mcdal_id, which are not of this campaign",
    "unknown id": "{n} annotations of images that this campaign did not ask about",
    "partial": "{n} annotations without a class, which count as no answer: finish or delete them in Label Studio",
    "several": "{n} annotations with several classes, which count as no answer: choose one",
    "unknown class": "{n} annotations with a class that the campaign does not have (`mcdal campaign classes --add`, pull again)",
    "duplicate": "{n} older annotations of somebody who has a newer one of the same image",
    "refused": "{n} answers that the campaign does not take",
    "removed": "{n} annotations of people who were removed from the campaign",
    "gone": "{n} answers whose tasks were deleted; they stay",
}


@dataclass
class Report:
    """kinds counts by what became of an annotation; told names those that somebody should look at.

    newest: the last change that was seen, as the server writes times.
    """

    annotations: int = 0
    newest: str = ""
    kinds: Counter[str] = field(default_factory=Counter)
    told: dict[str, list[str]] = field(default_factory=dict)

    def tell(self, kind: str, what: str) -> None:
        self.kinds[kind] += 1
        self.told.setdefault(kind, []).append(what)

    def count(self, receipt: Receipt, kind: str, id: str) -> None:
        """What the campaign made of an answer."""
        if receipt.status == "refused":
            self.tell("refused", f"{id!r}: {receipt.message}")
        elif receipt.status == "recorded":
            self.kinds[kind] += 1

    @property
    def changes(self) -> int:
        """How many answers were recorded or taken back."""
        return sum(self.kinds[kind] for kind in ("new", "corrected", "deleted"))

    def lines(self) -> list[str]:
        counted = [f"{self.kinds[kind]} {kind}" for kind in COUNTED if self.kinds[kind]]
        said = [f"{self.annotations} annotations: {', '.join(counted) or 'nothing new'}"]
        for kind, names in self.told.items():
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            said.append(f"  {WORDS[kind].format(n=len(names))}: {'; '.join(names[:NAMED])}{more}")
        return said
