"""BatchBALD's greedy batch: each next label says most about the weights, given the labels before it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mcdal.errors import SelectionError
from mcdal.selection.top import refuse_nan
from mcdal.values import Ids, Picks, Rows

AT_ONCE = 2**22
"""Probabilities of labels that are compared at once, of rows after combinations: as many as 32 MB would hold."""
BLOCK = 256
"""Combinations of one product."""
DECIMALS = 10
"""Scores that are equal to so many decimals, in nats, are ties: they differ by rounding."""


@dataclass(frozen=True)
class Combinations:
    """Labels that the picks so far may get: how likely each combination is, and what it would say of the draws of the weights.

    weight[i] = p(combination i), 1/m each where they are drawn. posterior[i, t] = p(w_t | combination i).
    """

    weight: Float[Tensor, " m"]
    posterior: Float[Tensor, "m t"]
    exact: bool

    @staticmethod
    def of_nothing(draws: int) -> "Combinations":
        """Before the first pick: one empty combination, and all draws of the weights equally likely."""
        return Combinations(_equal(1), _equal(draws)[None], exact=True)

    def entropy(self, p: Float[Tensor, "n t c"]) -> Float[Tensor, " n"]:
        """H(y_x | labels of the picks so far), the mean over the combinations; p[x, t] = p_t(y | x)."""
        n, t, c = p.shape
        by_draw, each = p.transpose(0, 1).reshape(t, n * c), p.new_zeros(n * c)
        for weight, posterior in zip(torch.split(self.weight, BLOCK), torch.split(self.posterior, BLOCK), strict=True):
            given = posterior @ by_draw  # m n*c: p(y_x | combination)
            each += weight @ _entr(given)
        return each.view(n, c).sum(1)

    def with_pick(self, p: Float[Tensor, "t c"], most: int, random: np.random.Generator) -> "Combinations":
        """With the labels that one more pick may get: all of them if that makes at most `most`, else `most` drawn ones."""
        if self.exact and len(self.weight) * p.shape[1] <= most:
            weight = self.weight[:, None] * (self.posterior @ p)  # m c
            joint = (self.posterior[:, None, :] * p.T).flatten(0, 1)
            possible = weight.flatten() > 0
            return Combinations(weight.flatten()[possible], _shares(joint[possible]), exact=True)
        posterior = self.posterior
        if self.exact:
            posterior = posterior[_drawn(self.weight[None], most, random)[0]]
        y = _drawn(posterior @ p, 1, random)[:, 0]
        return Combinations(_equal(most), _shares(posterior * p.T[y]), exact=False)


def batch_bald(rows: Rows, budget: int, draws: int, combinations: int, random: np.random.Generator) -> Picks:
    """`budget` of the unlabeled rows, greedily (Kirsch et al. 2019, Algorithm 1); their score is the gain of each pick.

    rows.vector: p_t(y | x) for t = 1 ... `draws`, one draw after the other. The gain of x is H(y_x | y_1 ... y_n-1) -
    1/T sum_t H(p_t(x)): the paper's difference of joint entropies, of which H(y_1 ... y_n-1) is the same for all x. A gain can
    only fall as labels are added, so a row is looked at again only where its last gain could still be the largest (Minoux 1978).
    All gains together are at most log T: with few draws, late picks of a large batch gain nothing and follow their ids.
    """
    table = _Table.of(rows, draws)
    known = Combinations.of_nothing(draws)
    picked: list[int] = []
    for _ in range(budget):
        place = _best(table, known, picked)
        picked.append(place)
        known = known.with_pick(table.p(np.array([place]))[0], combinations, random)
    return Picks(table.ids(np.array(picked, dtype=np.int64)), table.bound[picked])


@dataclass(frozen=True)
class _Table:
    """The unlabeled rows by id, so that their order in `rows` does not matter.

    bound: the last gain of each, at first its BALD; a pick's stays its gain.
    """

    rows: Rows
    draws: int
    positions: Int[np.ndarray, " n"]
    bound: Float[np.ndarray, " n"]

    @staticmethod
    def of(rows: Rows, draws: int) -> "_Table":
        if rows.vector is None or rows.vector.shape[1] % draws:
            raise SelectionError(f"BatchBALD needs class probabilities of {draws} draws of the weights for each row")
        left: list[int] = sorted(np.flatnonzero(~rows.labeled).tolist(), key=lambda i: rows.ids[i])
        table = _Table(rows, draws, np.array(left, dtype=np.int64), np.zeros(len(left)))
        at_once = max(1, AT_ONCE // rows.vector.shape[1])
        for start in range(0, len(left), at_once):
            places = np.arange(start, min(start + at_once, len(left)))
            table.bound[places] = _gain(table.p(places), Combinations.of_nothing(draws))
        refuse_nan([rows.ids[i] for i in left], table.bound)
        return table

    def p(self, places: Int[np.ndarray, " k"]) -> Float[Tensor, "k t c"]:
        """p_t(y | x), read from the vectors and made to sum to 1 in float64."""
        assert self.rows.vector is not None
        vectors = torch.from_numpy(self.rows.vector[self.positions[places]]).double()
        return _shares(vectors.view(len(places), self.draws, -1))

    def ids(self, places: Int[np.ndarray, " k"]) -> Ids:
        return tuple(self.rows.ids[i] for i in self.positions[places].tolist())


def _gain(p: Float[Tensor, "k t c"], known: Combinations) -> Float[np.ndarray, " k"]:
    """I(y_x; w | labels of the picks so far), at least 0."""
    alone = torch.special.entr(p).sum(2).mean(1)
    gain: Float[np.ndarray, " k"] = (known.entropy(p) - alone).clamp_min(0).numpy().round(DECIMALS)
    return gain


def _best(table: _Table, known: Combinations, picked: list[int]) -> int:
    """Place of the largest gain, of equal ones that with the first id. Lowers the bounds of the rows it looks at."""
    order = np.argsort(-table.bound, kind="stable")
    free = order[~np.isin(order, picked)]
    classes = table.p(free[:1]).shape[2]
    at_once = max(1, AT_ONCE // (len(known.weight) * classes))
    best = (np.inf, -1)  # minus the gain, and the place: the least is the best
    for start in range(0, len(free), at_once):
        places = free[start : start + at_once]
        if table.bound[places[0]] < -best[0] - 10.0**-DECIMALS:
            break
        # Drawn combinations may seem to say more of a row than fewer labels did: they cannot.
        table.bound[places] = np.minimum(_gain(table.p(places), known), table.bound[places])
        best = min([best, *zip((-table.bound[places]).tolist(), places.tolist(), strict=True)])
    return best[1]


def _entr(p: Float[Tensor, "*many"]) -> Float[Tensor, "*many"]:
    """-p log p, and 0 at 0; torch's own takes twice as long."""
    return p.clamp_min(torch.finfo(p.dtype).tiny).log_().mul_(p).neg_()


def _equal(k: int) -> Float[Tensor, " k"]:
    """k equal shares of 1."""
    return torch.full((k,), 1 / k, dtype=torch.float64)


def _shares(x: Float[Tensor, "*many k"]) -> Float[Tensor, "*many k"]:
    """Scaled to sum to 1."""
    return x / x.sum(-1, keepdim=True)


def _drawn(weights: Float[Tensor, "m k"], times: int, random: np.random.Generator) -> Int[Tensor, "m times"]:
    """`times` of 0 ... k - 1 from each row, in proportion to its weights; never one of weight 0."""
    cumulative = weights.cumsum(1)
    u = torch.from_numpy(random.random((len(weights), times)))
    return torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True)
