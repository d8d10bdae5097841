"""Choosing from the files of a pass, one after the other: memory holds what was asked for and a part of one file."""

from collections.abc import Collection, Iterator, Mapping
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int, Shaped

from mcdal.errors import SelectionError
from mcdal.measuring import select
from mcdal.passes.best import Best
from mcdal.passes.measured import Measured, Part
from mcdal.passes.rows import rows_of
from mcdal.passes.shard_files import ROWS_AT_ONCE
from mcdal.selection.top import Lottery, gumbel, log_weight, uniforms
from mcdal.strategies.base import Strategy, draws_by_lot, picks_the_largest
from mcdal.values import Picks

Labels: TypeAlias = Mapping[str, int]
Away: TypeAlias = Collection[str]


def pick(
    strategy: Strategy, measured: Measured, budget: int, labels: Labels, seed: int = 0, away: Away = frozenset()
) -> Picks:
    """What the strategy picks, as `mcdal.measuring.select` would: in bounded memory where it picks by its score alone.

    labels: the samples that have one. away: those that were set aside. A strategy that chooses over all rows is given them
    (`rows_of`): ids and scores in memory, vectors mapped.
    """
    if picks_the_largest(strategy):
        return top_of(measured, budget, labels, away)
    if (lot := draws_by_lot(strategy)) is not None:
        return lot_of(measured, budget, labels, seed, *lot, away)
    return select(strategy, rows_of(measured, labels, away), budget, seed)


def top_of(measured: Measured, budget: int, labels: Labels, away: Away = frozenset()) -> Picks:
    """The `budget` largest scores, as `mcdal.selection.top` picks them: equal scores in the order of their ids, NaN refused.

    Memory: O(budget + rows of a part); ids are read only of rows that may be picked.
    """
    best = _best(budget)
    for part in measured.parts():
        score = _score(part)
        may_be = np.flatnonzero(~(score < best.bound))  # NaN as well
        ids, may_be = _free(part, may_be, labels, away)
        _refuse_nan(part, ids, score[may_be], len(score))
        best.add(ids, score[may_be], score[may_be])
    return best.picks()


def random_of(measured: Measured, budget: int, labels: Labels, seed: int, away: Away = frozenset()) -> Picks:
    """`budget` ids, uniform without replacement: those of `mcdal.selection.at_random`, in bounded memory."""
    best = _best(budget)
    for part in measured.parts():
        ids, _ = _free(part, np.arange(len(part.ids)), labels, away)
        key = uniforms(seed, ids)
        _add(best, ids, key, key)
    return best.picks()


def lot_of(
    measured: Measured, budget: int, labels: Labels, seed: int, sampling: Lottery, beta: float, away: Away = frozenset()
) -> Picks:
    """By lot in proportion to a weight that grows with the score: the picks of `mcdal.selection.stochastic_top`.

    power and softmax in bounded memory, as the noise of an id depends on the seed and the id alone. softrank needs the rank of
    each row among all: all ids and scores are held, some 50 bytes a row.
    """
    if sampling == "top":
        return top_of(measured, budget, labels, away)
    if sampling == "softrank":
        return _by_rank(measured, budget, labels, seed, beta, away)
    best = _best(budget)
    for ids, score in _scored(measured, labels, away):
        weight = log_weight(ids, score.astype(np.float64), sampling, beta)
        _add(best, ids, weight + gumbel(seed, ids), score)
    return best.picks()


def _by_rank(measured: Measured, budget: int, labels: Labels, seed: int, beta: float, away: Away) -> Picks:
    best = _best(budget)
    parts = [(pa.array(ids, pa.string()), score) for ids, score in _scored(measured, labels, away)]
    if not parts:
        return best.picks()
    scores = np.concatenate([score for _, score in parts]).astype(np.float64) + 0.0  # -0 and 0 are equal
    names = pa.chunked_array([ids for ids, _ in parts]).cast(pa.large_string())
    del parts
    order = pc.sort_indices(
        pa.table({"score": scores, "id": names}), sort_keys=[("score", "descending"), ("id", "ascending")]
    )
    rank = np.empty(len(scores))
    rank[order.to_numpy()] = np.arange(1, len(scores) + 1)
    for first in range(0, len(scores), ROWS_AT_ONCE):
        here = slice(first, first + ROWS_AT_ONCE)
        ids = names.slice(first, ROWS_AT_ONCE).to_pylist()
        _add(best, ids, -beta * np.log(rank[here]) + gumbel(seed, ids), scores[here])
    return best.picks()


def _scored(measured: Measured, labels: Labels, away: Away) -> Iterator[tuple[list[str], Float[np.ndarray, " n"]]]:
    """All ids that may be picked, with their scores."""
    for part in measured.parts():
        score = _score(part)
        ids, free = _free(part, np.arange(len(score)), labels, away)
        _refuse_nan(part, ids, score[free], len(score))
        yield ids, score[free]


def _best(budget: int) -> Best:
    if budget < 1:
        raise SelectionError(f"a budget of {budget} asks for nothing: give at least 1")
    return Best(budget)


def _add(best: Best, ids: list[str], key: Float[np.ndarray, " n"], score: Shaped[np.ndarray, " n"]) -> None:
    """Only those that may still be among the best."""
    may_be = np.flatnonzero(key >= best.bound)
    best.add([ids[i] for i in may_be.tolist()], key[may_be], score[may_be])


def _free(
    part: Part, positions: Int[np.ndarray, " m"], labels: Labels, away: Away
) -> tuple[list[str], Int[np.ndarray, " _"]]:
    """Those that may be picked of the rows at these positions: their ids, and where they stand in the part."""
    ids = part.ids.take(pa.array(positions)).to_pylist()
    free = [i for i, id in enumerate(ids) if id not in labels and id not in away]
    return [ids[i] for i in free], positions[np.array(free, dtype=np.int64)]


def _score(part: Part) -> Float[np.ndarray, " n"]:
    if part.score is None:
        raise SelectionError("no score was measured: a strategy without one chooses over all rows (`pick`)")
    return part.score


def _refuse_nan(part: Part, ids: list[str], score: Float[np.ndarray, " n"], of: int) -> None:
    bad = np.flatnonzero(np.isnan(score))
    if len(bad):
        raise SelectionError(
            f"{len(bad)} of {of} scores of the shard {part.shard!r} are NaN, the first of sample {ids[int(bad[0])]!r}: nothing "
            "was picked"
        )
