"""How well people agree: over images that two or more of them answered, corrected for chance."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """images: that two or more people answered. share: of the pairs of their answers that are the same. alpha: Krippendorff's.

    alpha is 1 where all agree, 0 where they agree as often as chance would, and None where all said the same one thing of all.
    """

    images: int
    share: float
    alpha: float | None


def agreement(answers: Sequence[Sequence[int]]) -> Agreement | None:
    """Krippendorff's alpha for nominal data (Krippendorff 2011). answers: of each image, the classes that people gave it.

    None where no image has two answers. For two people who answered all images it is Scott's pi with a correction for few.
    """
    several = [said for said in answers if len(said) > 1]
    if not several:
        return None
    n = sum(map(len, several))
    of_class = Counter(c for said in several for c in said)
    # Of each image, pairs that differ, each counted as one person's share of the image's answers.
    differ = sum(
        (len(said) ** 2 - sum(k * k for k in Counter(said).values())) / (len(said) - 1) for said in several
    )  # fmt: skip
    by_chance = (n * n - sum(k * k for k in of_class.values())) / (n - 1)
    alpha = 1 - differ / by_chance if by_chance else None
    pairs = [(a == b) for said in several for i, a in enumerate(said) for b in said[i + 1 :]]
    return Agreement(len(several), sum(pairs) / len(pairs), alpha)
