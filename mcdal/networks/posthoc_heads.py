"""MCDAL's auxiliary heads on features that are given: several independent sets of them, trained as one product."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mcdal.discrepancy import Distance, discrepancy
from mcdal.networks.moments import AT_ONCE, moments
from mcdal.networks.own_steps import descend
from mcdal.schedule import Optimization, set_rate

Positions = Int[np.ndarray, " _"]


class PosthocHeads(nn.Module):
    """`sets` x `heads` linear heads on d features. A set is one MCDAL: its heads and the task's own p are compared pairwise.

    Sets share nothing but the batches: each has its own initial weights, drawn from torch's global random state as those of
    `nn.Linear`, and under SGD the sum of their losses trains each as its own loss would.
    """

    def __init__(self, d: int, classes: int, sets: int, heads: int, distance: Distance):
        super().__init__()
        self.linear = nn.Linear(d, sets * heads * classes)
        self._shape = sets, heads, classes
        self._distance = distance

    def forward(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b s h c"]:
        logits: Tensor = self.linear(z)
        return logits.view(len(z), *self._shape)

    def cross_entropy(self, z: Float[Tensor, "b d"], y: Int[Tensor, " b"]) -> Float[Tensor, ""]:
        """sum_k CE(p_k, y), the mean over the batch, summed over the sets."""
        sets, heads, _ = self._shape
        logits = self(z)
        labels = y[:, None, None].expand(-1, sets, heads)
        return F.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="sum") / len(z)

    def discrepancy(self, z: Float[Tensor, "b d"], p: Float[Tensor, "b c"]) -> Float[Tensor, "b s"]:
        """Eq. 4 of each set: D(x) = sum of d over all pairs of {p, p_1 ... p_n}."""
        own = self(z).softmax(-1)
        members = [p[:, None].expand(-1, self._shape[0], -1), *own.unbind(2)]
        return discrepancy(members, self._distance)


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
    random: np.random.Generator,
) -> list[float]:
    """Trains the heads by MCDAL's steps A and B, one of each a batch of unlabeled rows; gives the mean L_dis of each pass.

    A pass sees each unlabeled row once. y: class index of each row that `labeled` names. A batch has at most as many labeled
    rows as there are.
    """
    optimizer = optimization.optimizer(heads.parameters())
    steps = passes * -(-len(unlabeled) // batch_size)
    some_labeled = _endless(labeled, min(batch_size, len(labeled)), random)
    means, step = [], 0
    for _ in range(passes):
        total = torch.zeros((), dtype=torch.float64)
        for batch in _once(unlabeled, batch_size, random):
            set_rate(optimizer, optimization.rate(step, steps, 0, 0))
            known = next(some_labeled)
            total += _step(heads, optimizer, features[known][0], y[torch.from_numpy(known)], *features[batch])
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
    descend(optimizer, heads.cross_entropy(z, y))
    apart = heads.discrepancy(z_u, p_u)
    descend(optimizer, heads.cross_entropy(z, y) - apart.mean(0).sum())
    return apart.detach().mean(1).sum().double()


def _once(positions: Positions, size: int, random: np.random.Generator) -> Iterator[Positions]:
    """All positions in random order, in batches; the last may be smaller."""
    order = random.permutation(positions)
    return (order[first : first + size] for first in range(0, len(order), size))


def _endless(positions: Positions, size: int, random: np.random.Generator) -> Iterator[Positions]:
    """Full batches from permutation after permutation; a batch may run from one into the next."""
    waiting = positions[:0]
    while True:
        while len(waiting) < size:
            waiting = np.concatenate([waiting, random.permutation(positions)])
        yield waiting[:size]
        waiting = waiting[size:]


def apart(heads: PosthocHeads, features: Features, positions: Positions) -> Float[Tensor, " m"]:
    """D(x) of these rows, the mean over the sets."""
    with torch.no_grad():
        parts = (positions[first : first + AT_ONCE] for first in range(0, len(positions), AT_ONCE))
        return torch.cat([heads.discrepancy(*features[where]).double().mean(1) for where in parts])
