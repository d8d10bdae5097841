"""Fisher information of a linear softmax head, and the batch that lowers the trace of its inverse most (BAIT)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mcdal.selection.clusters import COPIED
from mcdal.selection.k_center import chunks, part
from mcdal.stack import Matrix

Positions = Int[np.ndarray, " _"]
Part: TypeAlias = tuple[Float[Tensor, "m d"], Float[Tensor, "m c k"]]
"""Features of some rows, and their factors B."""

AT_ONCE = 1_024
"""Rows of a product with a matrix of (C d)^2 numbers."""
TIE = 1e-9
"""Changes of the trace that differ by less than this share of the largest are ties: they differ by rounding."""


def factors(p: Float[Tensor, "m c"], likely: int) -> Float[Tensor, "m c k"]:
    """B with columns sqrt(q_y) (onehot(y) - p), one for each of the k = `likely` most likely classes y.

    The information of a row is I(x) = (B B') (x) z z'. q is p scaled to sum to 1 over these classes, so with all of them
    B B' = diag(p) - p p'.
    """
    q, y = p.topk(likely, dim=1)
    onehot = torch.nn.functional.one_hot(y, p.shape[1]).to(p.dtype)
    columns = (onehot - p[:, None]) * (q / q.sum(1, keepdim=True)).sqrt()[:, :, None]
    return columns.transpose(1, 2)


@dataclass(frozen=True)
class Gradients:
    """Rows of features z and class probabilities p, read in parts as float64."""

    z: Float[Matrix, "n d"]
    p: Float[Matrix, "n c"]
    likely: int

    def part(self, where: Positions) -> Part:
        p = torch.from_numpy(self.p[where].astype(np.float64))
        return part(self.z, where).double(), factors(p, self.likely)

    def information(self, positions: Positions) -> Float[Tensor, "c d c d"]:
        """sum_x I(x) over these rows."""
        c, d = self.p.shape[1], self.z.shape[1]
        total = torch.zeros(c, d, c, d, dtype=torch.float64)
        for where in chunks(len(positions), AT_ONCE):
            z, b = self.part(positions[where])
            inner = b @ b.transpose(1, 2)
            for i in range(c):  # one row of blocks at a time, from the diagonal on: the rest is its mirror
                weighted = inner[:, i, i:, None] * z[:, None]
                total[i, :, i:] += (z.T @ weighted.flatten(1)).view(d, c - i, d)
        for i in range(c):
            total[i + 1 :, :, i] = total[i, :, i + 1 :].permute(1, 2, 0)
        return total

    def forms(self, x: Float[Tensor, "c d c d"], positions: Positions) -> Float[Tensor, "m k k"]:
        """V' X V of each row, with V = B (x) z and X symmetric."""
        found = []
        for where in chunks(len(positions), AT_ONCE):
            z, b = self.part(positions[where])
            s = z.new_empty(len(z), len(x), len(x))
            for i in range(len(x)):
                s[:, i] = ((z @ x[i].flatten(1)).view(len(z), *x.shape[2:]) * z[:, None]).sum(2)
            found.append(b.transpose(1, 2) @ s @ b)
        return torch.cat(found)

    def parts(self, positions: Positions) -> Iterable[Part]:
        """All of these rows: read once and kept where that fits, otherwise read anew whenever they are wanted."""
        read = _Parts(self, positions)
        d, (c, k) = self.z.shape[1], (self.p.shape[1], self.likely)
        return list(read) if 8 * len(positions) * (d + c * k) <= COPIED else read

    @staticmethod
    def products(w: Float[Tensor, "c d j"], parts: Iterable[Part]) -> Float[Tensor, "m k j"]:
        """V' W of each row."""
        found = []
        for z, b in parts:
            t = (z @ w.transpose(0, 1).flatten(1)).view(len(z), len(w), w.shape[2])
            found.append(b.transpose(1, 2) @ t)
        return torch.cat(found)


@dataclass(frozen=True)
class _Parts:
    """Rows that are read whenever one goes through them."""

    gradients: Gradients
    positions: Positions

    def __iter__(self) -> Iterator[Part]:
        return (self.gradients.part(self.positions[where]) for where in chunks(len(self.positions)))


class Trace:
    """tr(M^-1 F) under changes M + I(x) and M - I(x), for rows x that are known beforehand.

    After Woodbury, with V V' = I(x), G = V' M^-1 V and H = V' M^-1 F M^-1 V (k x k for each row):

        tr(M^-1 F) - tr((M + s I(x))^-1 F) = s tr((1 + s G)^-1 H)          s = +1 or -1

    G and H of all rows follow each change of M by products with the k columns of the changed row; nothing of the size
    rows x (C d) is held.
    """

    def __init__(
        self, gradients: Gradients, m: Float[Tensor, "c d c d"], f: Float[Tensor, "c d c d"], positions: Positions
    ):
        self.gradients, self.positions, self._parts = gradients, positions, gradients.parts(positions)
        self._shape = m.shape
        size = m.shape[0] * m.shape[1]
        self._f = f.reshape(size, size)
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(m.reshape(size, size)))
        self.g = gradients.forms(self._inverse.view(self._shape), positions)
        middle = self._inverse @ self._f @ self._inverse
        self.h = gradients.forms(middle.view(self._shape), positions)

    def restrict(self, kept: Positions) -> None:
        """Follows these of the rows alone from now on."""
        self.positions = self.positions[kept]
        self._parts = self.gradients.parts(self.positions)
        self.g, self.h = self.g[torch.from_numpy(kept)], self.h[torch.from_numpy(kept)]

    def falls(self, sign: int) -> Float[np.ndarray, " m"]:
        """tr((1 + s G)^-1 H) of each row: what adding it takes from the trace, or what removing it adds."""
        one = torch.eye(self.g.shape[1], dtype=torch.float64)
        solved = torch.linalg.solve(one + sign * self.g, self.h)
        change: Float[np.ndarray, " m"] = solved.diagonal(dim1=1, dim2=2).sum(1).numpy()
        return change

    def change(self, row: int, sign: int) -> None:
        """M = M + s I(x) for the row at this place."""
        z, b = self.gradients.part(self.positions[row : row + 1])
        v = (b[0][:, None] * z[0][:, None]).flatten(0, 1)  # (C d) x k
        w = self._inverse @ v
        fw = self._f @ w
        y = self._inverse @ fw
        r = sign * torch.linalg.inv(torch.eye(v.shape[1], dtype=v.dtype) + sign * (v.T @ w))
        both = torch.cat([w, y], dim=1).view(*self._shape[:2], -1)
        pq = self.gradients.products(both, self._parts)
        p, q = pq[:, :, : v.shape[1]], pq[:, :, v.shape[1] :]
        self._inverse.addmm_(w @ r, w.T, alpha=-1)  # in place: a matrix of its size takes longer to get than to fill
        pr, mixed = p @ r, p @ r @ q.transpose(1, 2)
        self.g -= pr @ p.transpose(1, 2)
        self.h += pr @ (w.T @ fw) @ pr.transpose(1, 2) - mixed - mixed.transpose(1, 2)


def bait(trace: Trace, budget: int, surplus: int) -> tuple[list[int], list[float]]:
    """Places of `budget` of the rows that `trace` follows: `surplus` greedily one by one, then the least missed go again.

    The second list has what each took from the trace when it came. Ties: the earlier row comes first and goes last.
    """
    chosen: list[int] = []
    fell: list[float] = []
    free = np.ones(len(trace.positions), dtype=bool)
    for _ in range(min(surplus, len(free))):
        falls = np.where(free, trace.falls(+1), -np.inf)
        pick = int(np.flatnonzero(falls >= falls.max() - TIE * abs(falls.max()))[0])
        trace.change(pick, +1)
        free[pick] = False
        chosen.append(pick)
        fell.append(float(falls[pick]))
    kept = list(range(len(chosen)))
    trace.restrict(np.array(chosen, dtype=np.int64))
    while len(kept) > budget:
        missed = trace.falls(-1)[kept]
        least = np.flatnonzero(missed <= missed.min() + TIE * abs(missed.min()))
        gone = max((kept[i] for i in least), key=lambda i: chosen[i])
        trace.change(gone, -1)
        kept.remove(gone)
    return [chosen[i] for i in kept], [fell[i] for i in kept]
