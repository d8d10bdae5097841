"""Training of MCDAL's heads on features that stay fixed, a batch at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mcdal.networks.moments import AT_ONCE, moments
from mcdal.networks.posthoc_heads import PosthocHeads
from mcdal.schedule import Optimization, set_rate

Positions = Int[np.ndarray, " _"]

KEPT = 1 << 29
"""Bytes up to which standardized features are kept in memory during a fit; beyond, they are read batch by batch."""


@dataclass(frozen=True)
class Features:
    """Rows of features and class probabilities, read a batch at a time: `vector` may be memory-mapped.

    z = (vector - mean) * scale.
    """

    vector: Float[np.ndarray, "n d"]
    probabilities: Float[np.ndarray, "n c"]
    mean: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]

    @staticmethod
    def of(
        vector: Float[np.ndarray, "n d"], probabilities: Float[np.ndarray, "n c"], order: Positions, standardized: bool
    ) -> "Features":
        """standardized: each feature has mean 0 over all rows, and deviation 1/sqrt(d), so that a row has a length near 1.

        order: all rows as they are to be added up, so that the last bits do not depend on where they lie.
        """
        d = vector.shape[1]
        mean, scale = torch.zeros(d), torch.ones(d)
        if standardized:
            first, deviation = moments(vector, order)
            mean = first.float()
            scale = torch.where(deviation > 1e-6 * deviation.max(), 1 / (deviation * d**0.5), 0).float()
        return Features(vector, probabilities, mean, scale)

    def __getitem__(self, positions: Positions) -> tuple[Float[Tensor, "m d"], Float[Tensor, "m c"]]:
        z = torch.from_numpy(np.asarray(self.vector[positions], dtype=np.float32))
        p = torch.from_numpy(np.asarray(self.probabilities[positions], dtype=np.float32))
        return (z - self.mean) * self.scale, p


def fit(
    heads: PosthocHeads,
    features: Features,
    labeled: Positions,
    y: Int[Tensor, " n"],
    unlabeled: Positions,
    optimization: Optimization,
    passes: int,
    batch_size: int,
    labeled_batch_size: int,
    random: np.random.Generator,
) -> list[float]:
    """Trains the heads by MCDAL's steps A and B, one of each a batch of unlabeled rows; gives the mean L_dis of each pass.

    A pass sees each unlabeled row once. y: class index of each row that `labeled` names.
    """
    optimizer = optimization.optimizer(heads.parameters())
    rows = _Shuffled(features, unlabeled, batch_size, random)
    known = _Shuffled(features, labeled, min(labeled_batch_size, len(labeled)), random)
    classes = y[torch.from_numpy(known.order)]
    some_labeled = (batch for _ in iter(int, 1) for batch in known.once())  # endlessly
    steps = passes * rows.batches
    means, step = [], 0
    for _ in range(passes):
        total = torch.zeros((), dtype=torch.float64)
        for batch in rows.once():
            set_rate(optimizer, optimization.rate(step, steps, 0, 0))
            few = next(some_labeled)
            total += _step(heads, optimizer, known[few][0], classes[few], *rows[batch])
            step += 1
        means.append(float(total) / len(unlabeled))
    return means


def _step(
    heads: PosthocHeads,
    optimizer: torch.optim.Optimizer,
    z: Float[Tensor, "b d"],
    y: Int[Tensor, " b"],
    z_u: Float[Tensor, "u d"],
    p_u: Float[Tensor, "u c"],
) -> Tensor:
    """Step A, then step B; gives the sum of L_dis over the unlabeled rows, the mean of the sets."""
    with torch.no_grad():
        heads.set_gradient((heads.cross_entropy_slope(z, y), z))
        optimizer.step()
        apart, total = heads.discrepancy_slope(z_u, p_u)
        heads.set_gradient((heads.cross_entropy_slope(z, y), z), (apart.neg_(), z_u))
        optimizer.step()
    return total.double() / heads.sets


class _Shuffled:
    """Rows in batches that lie together: shuffled once, then cut anew at a random place in every pass.

    order: positions of the rows as they were shuffled. A batch is a stretch of it, or its end and its beginning.
    """

    def __init__(self, features: Features, positions: Positions, size: int, random: np.random.Generator):
        self.order: Positions = random.permutation(positions)
        self.batches = -(-len(positions) // size)
        self._features, self._size, self._random = features, size, random
        width = features.vector.shape[1] + features.probabilities.shape[1]
        self._kept = features[self.order] if 4 * width * len(positions) <= KEPT else None
        if self._kept is not None:  # probabilities as the heads give them: samples last
            self._kept = self._kept[0], self._kept[1].T.contiguous().T

    def once(self) -> Iterator[slice | Int[Tensor, " b"]]:
        """Batches that name each row once, in random order; one of them may be smaller."""
        n, start = len(self.order), int(self._random.integers(len(self.order)))
        for k in self._random.permutation(self.batches).tolist():
            first, last = start + k * self._size, start + min((k + 1) * self._size, n)
            if last <= n or first >= n:
                yield slice(first % n, (last - 1) % n + 1)
            else:
                yield torch.arange(first, last) % n

    def __getitem__(self, batch: slice | Int[Tensor, " b"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b c"]]:
        if self._kept is not None:
            return self._kept[0][batch], self._kept[1][batch]
        return self._features[self.order[batch if isinstance(batch, slice) else batch.numpy()]]


def apart(heads: PosthocHeads, features: Features, positions: Positions) -> Float[Tensor, " m"]:
    """D(x) of these rows, the mean over the sets."""
    with torch.no_grad():
        parts = (positions[first : first + AT_ONCE] for first in range(0, len(positions), AT_ONCE))
        return torch.cat([heads.discrepancy(*features[where]).double().mean(1) for where in parts])
