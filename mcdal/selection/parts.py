"""A choice from more rows than fit: the method in each of some random parts, then among what the parts picked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Int

from mcdal.errors import SelectionError
from mcdal.selection.top import at_random, uniforms
from mcdal.streams import stream
from mcdal.values import Picks, Rows

Choose: TypeAlias = Callable[[Rows, int], Picks]
Positions = Int[np.ndarray, " _"]


@dataclass(frozen=True)
class Parts:
    """How rows are shared out. count: of parts. room: rows without a label that one choice sees at most. labeled: those with one.

    each: picks of a part. again: whether the method chooses among these once more; else each part picks its share of the batch.
    """

    count: int
    room: int
    labeled: int
    each: int
    again: bool

    @staticmethod
    def of(free: int, labeled: int, budget: int, room: int, count: int | None = None) -> "Parts":
        """As few parts as fit, or `count` of them. free: rows without a label. room: those that fit into one choice."""
        count = min(count or max(2, -(-free // room)), free)
        again = budget <= room
        room = min(room, max(-(-free // count), 2 * budget))
        each = max(1, min(budget, room // count)) if again else -(-budget // count)
        return Parts(count, room, labeled, each, again)


def in_parts(choose: Choose, rows: Rows, budget: int, parts: Parts, seed: int) -> Picks:
    """`budget` of the rows without a label, or all (GreeDi, Mirzasoleiman et al. 2013, on parts drawn by lot).

    Rows without a label are shared out by lot, in parts of equal size. Every choice sees the same labeled rows: all, or
    `parts.labeled` drawn by lot. The last one is among the picks of all parts and as many other rows, drawn by lot, as there is
    room for: methods that weigh rows by how many are near still see where the pool is dense. A lot depends on the seed and the
    ids, not on where rows lie.
    """
    budget = min(budget, len(rows.free()))
    known = drawn(rows, np.flatnonzero(rows.labeled), parts.labeled, stream(seed, "labeled"))
    picked = [
        _chosen(choose, rows, known, part, parts.each if parts.again else share)
        for part, share in zip(_shared_out(rows, parts.count, seed), _shares(budget, parts.count), strict=True)
    ]
    if not parts.again:
        return _in_turn([picks for picks, _ in picked])
    found = np.concatenate([positions for _, positions in picked])
    if len(found) > max(parts.room, budget):
        return _again(choose, rows.take(np.sort(np.concatenate([known, found]))), budget, parts, seed)
    rest = np.setdiff1d(rows.free(), found)
    others = drawn(rows, rest, max(parts.room, budget) - len(found), stream(seed, "others"))
    return _chosen(choose, rows, known, np.concatenate([found, others]), budget)[0]


def _again(choose: Choose, rows: Rows, budget: int, parts: Parts, seed: int) -> Picks:
    """Among what so many parts picked that they are more than there is room for: in parts once more."""
    if parts.room < 2:
        raise SelectionError(
            "search.memory_gib and search.minutes leave room for one row at a time: raise them, or take search.how = exact"
        )
    fewer = Parts.of(len(rows.free()), parts.labeled, budget, parts.room)
    return in_parts(choose, rows, budget, fewer, stream(seed, "again"))


def drawn(rows: Rows, among: Positions, count: int, seed: int) -> Positions:
    """`count` of these positions by lot, or all."""
    if count >= len(among):
        return among
    places = at_random(rows.ids, max(count, 0), seed, among).places
    return among[:0] if places is None else places


def _shared_out(rows: Rows, count: int, seed: int) -> list[Positions]:
    free = rows.free()
    lots = uniforms(stream(seed, "parts"), (rows.ids[i] for i in free.tolist()))
    return np.array_split(free[np.argsort(lots, kind="stable")], count)


def _shares(budget: int, count: int) -> list[int]:
    """As even as can be; the first parts, which are the larger ones, get the rest."""
    return [len(share) for share in np.array_split(np.arange(budget), count)]


def _chosen(choose: Choose, rows: Rows, known: Positions, part: Positions, budget: int) -> tuple[Picks, Positions]:
    """Picks among a part, and where they stand in all rows."""
    seen = np.sort(np.concatenate([known, part]))
    budget = min(budget, len(part))
    if budget < 1:
        return Picks((), np.empty(0)), part[:0]
    picks = choose(rows.take(seen), budget)
    place = {rows.ids[i]: i for i in part.tolist()}
    return picks, np.array([place[id] for id in picks.ids], dtype=np.int64)


def _in_turn(picked: list[Picks]) -> Picks:
    """The first of each part, then the second of each, and so on."""
    order = sorted((rank, part) for part, picks in enumerate(picked) for rank in range(len(picks)))
    ids = tuple(picked[part].ids[rank] for rank, part in order)
    return Picks(ids, np.array([picked[part].score[rank] for rank, part in order], dtype=np.float64))
