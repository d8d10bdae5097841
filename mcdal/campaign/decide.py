"""What the answers of several people to one image add up to. Pure: the answers in, the decision out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["label", "cannot_tell", "skip"]

MOST_ASKED = 5
"""People who are asked about one image before it is given up as one that they do not agree on."""


@dataclass(frozen=True)
class Answer:
    """What one person says. value: class number of a label, None otherwise."""

    verdict: Verdict
    value: int | None = None


@dataclass(frozen=True)
class Decision:
    """closed: nobody else is asked. wanted: answers that are needed now. verdict, value: of a closed one, else None."""

    closed: bool
    wanted: int
    verdict: Literal["label", "cannot_tell"] | None = None
    value: int | None = None


def decide(answers: Sequence[Answer], wanted: int, decided: bool = False, people: int = MOST_ASKED) -> Decision:
    """The rule: as many people as are wanted, then the majority; where there is none, one person more, up to five.

    answers: those that stand, in the order in which they were given; a skip counts for nothing. "Cannot tell" is an opinion as a
    class is, but one person alone does not close an image with it: a second one is asked. decided: it was closed before, so that
    a late opinion that ties with the majority changes nothing; the earliest of those that tie is taken. people: how many there
    are at all: what all of them have answered waits for nobody else.
    """
    given = [a for a in answers if a.verdict != "skip"]
    if not given or len(given) < min(wanted, people):
        return Decision(False, wanted)
    counts = Counter(given)
    most = max(counts.values())
    winners = [a for a in dict.fromkeys(given) if counts[a] == most]
    first = winners[0]
    if len(winners) > 1 and not decided:
        return _one_more(len(given), wanted, people)
    if first.verdict == "cannot_tell" and most < 2:
        return _one_more(len(given), wanted, people)
    assert first.verdict != "skip"
    return Decision(True, wanted, first.verdict, first.value)


def _one_more(given: int, wanted: int, people: int) -> Decision:
    if given >= min(MOST_ASKED, people):
        return Decision(True, wanted, "cannot_tell")
    return Decision(False, max(wanted, given + 1))
