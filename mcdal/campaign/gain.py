"""What picking has brought over random labeling, told by the control arm alone."""

import math
from dataclasses import dataclass

import numpy as np

from mcdal.campaign.forecast import FEWEST_ROUNDS, forecasts
from mcdal.campaign.judged import Curve, interval
from mcdal.statistics.paired import Interval


@dataclass(frozen=True)
class Gain:
    """At the number of labels that are a random sample of the pool, the start set and the control images.

    accuracy: of models that learned from these. points: how much more those that learned from as many of the campaign's labels
    are right, 1 being all. saved: the share of the labels that the campaign needed less for `accuracy`; below 0 where it needed
    more, -inf where its curve does not get there. Both are read off curves through the rounds, as a single training lands above
    or below by chance. Intervals know of other audit images and other trainings, not of other images for the random sample.
    """

    labels: int
    accuracy: Interval
    points: Interval
    saved: Interval


def gain(picked: Curve, random: Curve) -> Gain | None:
    """Both curves begin with the start set. None as long as there are too few rounds, or no random label beyond the start set."""
    if min(len(picked.labels), len(random.labels)) < FEWEST_ROUNDS or random.labels[-1] <= random.labels[0]:
        return None
    n = float(random.labels[-1])
    mine, theirs = forecasts([picked, random])
    reached = theirs.at(n)
    needed = mine.needed(reached)
    saved = np.where(np.isinf(needed), -math.inf, 1 - needed / n)
    return Gain(round(n), interval(reached), interval(mine.at(n) - reached), interval(saved))
