"""k-means by Lloyd's iterations, as products in float32; where there are many centres, most of them among near ones alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mcdal.selection.k_center import chunks, part
from mcdal.selection.seeds import SAME, greedy_k_means_pp
from mcdal.stack import Matrix, on_disk
from mcdal.streams import numpy_generator

SAMPLE, EACH = 5_000, 10
"""Points that the first centres are chosen among, at least; and at least so many a centre."""
ENOUGH = 50
"""With so many of them a centre, iterations among them alone come first: with fewer, centres would follow them too closely."""
NEAR = 32
"""Centres that a near iteration compares a point with: those nearest to its own, which is one of them."""
MANY = 5 * NEAR
"""Centres, from which on near iterations are quicker than whole ones."""
NEAR_ROUNDS, ROUNDS = 10, 100
"""Near iterations after a whole one, and whole ones, at most."""
GAIN = 2e-5
"""Iterations end with the first that lowers the inertia by less than this share of it."""
ROWS, SUMMED = 2_048, 8_192
"""Points of one product, and those whose sum is taken in float32; sums of these are in float64."""


def k_means(points: Float[Matrix, "m d"], k: int, seed: int) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, "c d"]]:
    """The nearest centre of each point, and the centres: k, or fewer where fewer points differ by more than rounding.

    Every centre is the nearest one of some point. The same for the same points in the same order and seed, whatever the number
    of threads, and whether they are in memory or read in parts. Memory beyond the points: a few numbers a point, a sample of
    them, and blocks.
    """
    random = numpy_generator(seed, "k-means")
    with one_thread():
        every = (
            _Read(points) if on_disk(points) else torch.from_numpy(np.ascontiguousarray(points[:], dtype=np.float32))
        )
        size = min(len(every), max(SAMPLE, EACH * k))
        sample = every[torch.from_numpy(np.sort(random.choice(len(every), size, replace=False)))]
        about = sample.mean(0)
        sample -= about
        centres = sample[torch.from_numpy(greedy_k_means_pp(sample, k, random))]
        if ENOUGH * k <= size < len(every):
            centres = _Lloyd(sample, torch.zeros_like(about), centres, k).run()[1]
        cluster, centres = _Lloyd(every, about, centres, k).run()
    return cluster.numpy(), (centres + about).numpy()


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, a product is the same to the last bit on machines with few and many cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Read:
    """Points that are read in parts, as a tensor gives its rows."""

    def __init__(self, table: Float[Matrix, "n d"]):
        self._table, self.shape = table, table.shape

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, where: slice | Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
        return part(self._table, where if isinstance(where, slice) else where.numpy())


Points: TypeAlias = Tensor | _Read


class _Lloyd:
    """Points and the clusters that they are in now. Centres are taken about `about`, near the mean: there products cancel least.

    offset: what to add to -2 x.c for |x - about - c|^2 but for what is the point's alone; infinite for a centre that is not
    there, since fewer than k were given or nothing is nearest to it. sums: of the points of each cluster.
    """

    def __init__(self, x: "Points", about: Float[Tensor, " d"], centres: Float[Tensor, "c d"], k: int):
        self._x, self._about = x, about
        self._centres = torch.zeros(k, x.shape[1])
        self._centres[: len(centres)] = centres
        self._there = torch.arange(k) < len(centres)
        self._cluster = torch.full((len(x),), -1)
        self._least = torch.empty(len(x))
        self._own = _squared_lengths(x, about)
        self._sums = torch.zeros(k, x.shape[1], dtype=torch.float64)

    def run(self) -> tuple[Int[Tensor, " n"], Float[Tensor, "c d"]]:
        """Iterations until they gain little; the nearest of the centres for each point, and those that are the nearest of one."""
        for _ in range(ROUNDS):
            inertia = self._everywhere()
            filled, (means, gain) = self._fill(), self._means()
            if gain <= GAIN * inertia and not filled:
                break
            self._centres = means
            for _ in range(NEAR_ROUNDS if len(means) >= MANY else 0):
                inertia = self._nearby()
                self._centres, gain = self._means()
                if gain <= GAIN * inertia:
                    break
        else:
            self._everywhere()
        used = self._counts() > 0
        return (used.cumsum(0) - 1)[self._cluster], self._centres[used]

    def _everywhere(self) -> float:
        """Assigns every point to the nearest of all centres. The inertia then."""
        cluster, offset = torch.empty_like(self._cluster), self._offset()
        room = torch.empty(
            ROWS, len(offset)
        )  # memory new from the system for every part would take longer than filling it
        for where in chunks(len(self._x), ROWS):
            apart = room[: where.stop - where.start]
            torch.addmm(offset, self._x[where], self._centres.T, alpha=-2, out=apart)
            torch.min(apart, 1, out=(self._least[where], cluster[where]))
        return self._assign(cluster)

    def _nearby(self) -> float:
        """Assigns every point to the nearest of the centres that are the nearest ones to its own."""
        cluster, offset = self._cluster.clone(), self._offset()
        among = torch.where(self._there, self._centres.square().sum(1), torch.inf)
        near = torch.addmm(among, self._centres, self._centres.T, alpha=-2).topk(NEAR, dim=1, largest=False).indices
        order = self._cluster.argsort(stable=True)
        for which, members in zip(near, torch.split(order, self._counts().tolist()), strict=True):
            for rows in torch.split(members, ROWS):
                apart = torch.addmm(offset[which], self._x[rows], self._centres[which].T, alpha=-2)
                self._least[rows], place = apart.min(1)
                cluster[rows] = which[place]
        return self._assign(cluster)

    def _assign(self, cluster: Int[Tensor, " n"]) -> float:
        """Adds the points that have changed their cluster to its sum, and takes them off the other. The inertia."""
        new = bool(self._cluster[0] < 0)
        changed = torch.split((cluster != self._cluster).nonzero()[:, 0], SUMMED)
        for which in chunks(len(cluster), SUMMED) if new else changed:  # slices of all need no copy
            rows, sums = self._x[which], torch.zeros(self._centres.shape)
            sums.index_add_(0, cluster[which], rows)
            if not new:
                sums.index_add_(0, self._cluster[which], rows, alpha=-1)
            self._sums += sums
        self._cluster = cluster
        return float((self._least + self._own).sum(dtype=torch.float64))

    def _means(self) -> tuple[Float[Tensor, "k d"], float]:
        """Of the points of each cluster, and what the inertia would lose if centres were there. Empty clusters keep theirs."""
        counts = self._counts()[:, None]
        means = (self._sums / counts.clamp_min(1) - self._about).float()
        means = torch.where(counts > 0, means, self._centres)
        return means, float((counts * (means - self._centres).square()).sum(dtype=torch.float64))

    def _fill(self) -> bool:
        """Puts centres that no point is nearest to where points are farthest from theirs; whether there was one."""
        empty = (self._counts() == 0).nonzero()[:, 0]
        if len(empty) == 0:
            return False  # nothing is sorted for it
        self._there[empty] = False
        squared = self._least + self._own
        far = squared.argsort(descending=True, stable=True)[: len(empty)]
        far = far[squared[far] > SAME * self._own[far]]
        self._centres[empty[: len(far)]] = self._x[far] - self._about
        self._there[empty[: len(far)]] = True
        return len(far) > 0

    def _offset(self) -> Float[Tensor, " k"]:
        offset = self._centres.square().sum(1) + 2 * (self._centres @ self._about)
        return torch.where(self._there, offset, torch.inf)

    def _counts(self) -> Int[Tensor, " k"]:
        return self._cluster.bincount(minlength=len(self._centres))


def _squared_lengths(x: "Points", about: Float[Tensor, " d"]) -> Float[Tensor, " n"]:
    """|x - about|^2 of each."""
    found, room = torch.empty(len(x)), torch.empty(ROWS, x.shape[1])
    for where in chunks(len(x), ROWS):
        rows = torch.sub(x[where], about, out=room[: where.stop - where.start])
        torch.sum(rows.square_(), 1, out=found[where])
    return found
