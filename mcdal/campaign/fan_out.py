"""Finds the near-duplicates of images that people are about to be asked about."""

from collections.abc import Collection, Sequence

import numpy as np

from mcdal.likeness import Likeness
from mcdal.pool.base import Images, Pool


def near_duplicates(
    pool: Pool, ids: Sequence[str], near: float, but: Collection[str], kept_apart: Images
) -> dict[str, tuple[str, float]]:
    """By id of an image of the pool, which of `ids` it is a near-duplicate of, and how like it is (a cosine).

    but: images that have a label, or are asked about. kept_apart: the audit's; what looks more like one of these takes over
    nothing, so that nothing is learned of them.
    """
    if not len(ids):
        return {}
    looks = Likeness(pool.images)
    ours = looks.of(ids)
    audit = Likeness(kept_apart)
    theirs = audit.at(np.arange(len(kept_apart)))
    without, all_ids = frozenset(but) | frozenset(ids), pool.images.ids
    found: dict[str, tuple[str, float]] = {}
    for places, vectors in looks.parts():
        likeness = vectors @ ours.T
        best = likeness.argmax(1)
        most = likeness[np.arange(len(places)), best]
        apart = (vectors @ theirs.T).max(1) if len(theirs) else np.full(len(places), -1.0)
        for i in np.flatnonzero((most >= near) & (most > apart)):
            id = all_ids[places[i]]
            if id not in without:
                found[id] = ids[best[i]], float(most[i])
    return found
