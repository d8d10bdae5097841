"""Training of MCDAL's heads on features that stay fixed, a batch at a time, on the device of the heads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mcdal.device import sent
from mcdal.networks.moments import AT_ONCE, moments
from mcdal.networks.posthoc_heads import PosthocHeads
from mcdal.replay import Replayed
from mcdal.schedule import Optimization, set_rate
from mcdal.selection.k_center import widened
from mcdal.stack import Matrix, on_disk

Positions = Int[np.ndarray, " _"]

KEPT, KEPT_OF_DISK = 1 << 29, 3 << 29
"""Bytes up to which standardized features are kept in memory during a fit, and those that lie on the disk; beyond, they are read
batch by batch. On CUDA it is half of what is free there."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Features:
    """Rows of features and class probabilities, read a batch at a time: `vector` may be memory-mapped.

    z = (vector - mean) * scale, on the device of these two.
    """

    vector: Float[Matrix, "n d"]
    probabilities: Float[Matrix, "n c"]
    mean: Float[Tensor, " d"]
    scale: Float[Tensor, " d"]

    @staticmethod
    def of(
        vector: Float[Matrix, "n d"],
        probabilities: Float[Matrix, "n c"],
        order: Positions,
        standardized: bool,
        device: torch.device = CPU,
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
        return Features(vector, probabilities, mean.to(device), scale.to(device))

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def __getitem__(self, positions: Positions) -> tuple[Float[Tensor, "m d"], Float[Tensor, "m c"]]:
        z = torch.from_numpy(np.asarray(widened(self.vector[positions]), dtype=np.float32))
        p = torch.from_numpy(np.asarray(self.probabilities[positions], dtype=np.float32))
        return (sent(z, self.device) - self.mean) * self.scale, sent(p, self.device)


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
    precision: torch.dtype = torch.float32,
    weight: float = 1.0,
) -> list[float]:
    """Trains the heads by MCDAL's steps A and B, one of each a batch of unlabeled rows; gives the mean L_dis of each pass.

    A pass sees each unlabeled row once. y: class index of each row that `labeled` names. The heads are on the features' device.
    precision: of the features and of products with them; heads, probabilities and sums are float32. weight: of L_dis.
    """
    optimizer = optimization.optimizer(heads.parameters())
    rows = _Shuffled(features, unlabeled, batch_size, random, precision)
    known = _Shuffled(features, labeled, min(labeled_batch_size, len(labeled)), random, precision)
    classes = y[torch.from_numpy(known.order)].to(features.device)
    work = _Steps(heads, optimizer, weight, (known.size, min(batch_size, len(unlabeled))))
    some_labeled = (batch for _ in iter(int, 1) for batch in known.once())  # endlessly
    steps = passes * rows.batches
    means, step = [], 0
    for _ in range(passes):
        total = torch.zeros((), dtype=torch.float64, device=features.device)
        for batch in rows.once():
            set_rate(optimizer, optimization.rate(step, steps, 0, 0))
            few = next(some_labeled)
            total += work(known[few][0], classes[few], *rows[batch])
            step += 1
        means.append(float(total) / len(unlabeled))
    return means


class _Steps:
    """Steps A and B. On CUDA those of full batches are recorded once and replayed: launching their kernels takes the longest."""

    def __init__(self, heads: PosthocHeads, optimizer: torch.optim.Optimizer, weight: float, full: tuple[int, int]):
        """full: labeled and unlabeled rows of a full batch."""
        device = heads.linear.weight.device
        self._full = full
        self._ordinary: Callable[..., Tensor] = partial(_step, heads, optimizer, weight)
        self._of_full = Replayed(self._ordinary, device) if device.type == "cuda" else self._ordinary

    def __call__(
        self, z: Float[Tensor, "b d"], y: Int[Tensor, " b"], z_u: Float[Tensor, "u d"], p_u: Float[Tensor, "u c"]
    ) -> Float[Tensor, ""]:
        """The sum of L_dis over the unlabeled rows, the mean of the sets; the next call may overwrite it."""
        step = self._of_full if (len(z), len(z_u)) == self._full else self._ordinary
        return step(z, y, z_u, p_u)


def _step(
    heads: PosthocHeads,
    optimizer: torch.optim.Optimizer,
    weight: float,
    z: Float[Tensor, "b d"],
    y: Int[Tensor, " b"],
    z_u: Float[Tensor, "u d"],
    p_u: Float[Tensor, "u c"],
) -> Float[Tensor, ""]:
    few, many = 1 / len(z), -weight / (len(z_u) * p_u.shape[1])
    with torch.no_grad():
        heads.set_gradient((few, heads.cross_entropy_slope(z, y), z))
        optimizer.step()
        apart, total = heads.discrepancy_slope(z_u, p_u)
        heads.set_gradient((few, heads.cross_entropy_slope(z, y), z), (many, apart, z_u))
        optimizer.step()
    return total.double() / heads.sets


class _Shuffled:
    """Rows in batches that lie together: shuffled once, then cut anew at a random place in every pass.

    order: positions of the rows as they were shuffled. A batch is a stretch of it, or its end and its beginning. size: rows of
    a full batch.
    """

    def __init__(
        self, features: Features, positions: Positions, size: int, random: np.random.Generator, precision: torch.dtype
    ):
        self.order: Positions = random.permutation(positions)
        self.batches, self.size = -(-len(positions) // size), size
        self._features, self._random, self._precision = features, random, precision
        bytes_a_row = precision.itemsize * features.vector.shape[1] + 4 * features.probabilities.shape[1]
        fits = bytes_a_row * len(positions) <= _room(features)
        self._kept = _read(features, self.order, precision) if fits else None

    def once(self) -> Iterator[slice | Int[Tensor, " b"]]:
        """Batches that name each row once, in random order; one of them may be smaller."""
        n, start = len(self.order), int(self._random.integers(len(self.order)))
        for k in self._random.permutation(self.batches).tolist():
            first, last = start + k * self.size, start + min((k + 1) * self.size, n)
            if last <= n or first >= n:
                yield slice(first % n, (last - 1) % n + 1)
            else:
                yield torch.arange(first, last) % n

    def __getitem__(self, batch: slice | Int[Tensor, " b"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b c"]]:
        if self._kept is not None:
            return self._kept[0][batch], self._kept[1][batch]
        z, p = self._features[self.order[batch if isinstance(batch, slice) else batch.numpy()]]
        return z.to(self._precision), p


def _room(features: Features) -> int:
    """Bytes that may be kept on their device."""
    if features.device.type == "cuda":
        return torch.cuda.mem_get_info(features.device)[0] // 2
    return KEPT_OF_DISK if on_disk(features.vector) else KEPT


def _read(
    features: Features, order: Positions, precision: torch.dtype
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n c"]]:
    """z and p of these rows, a part at a time: what is on its way to a device is not all in memory twice.

    p lies there as the heads give theirs, samples last.
    """
    (n, d), c = (len(order), features.vector.shape[1]), features.probabilities.shape[1]
    z = torch.empty(n, d, dtype=precision, device=features.device)
    p = torch.empty(c, n, device=features.device)
    for first in range(0, n, AT_ONCE):
        part = slice(first, first + AT_ONCE)
        z[part], p.T[part] = features[order[part]]
    return z, p.T


def apart(heads: PosthocHeads, features: Features, positions: Positions) -> Float[Tensor, " m"]:
    """D(x) of these rows, the mean over the sets, on the CPU."""
    found = torch.empty(
        len(positions), dtype=torch.float64
    )  # small results kept between large ones would scatter the memory
    with torch.no_grad():
        for first in range(0, len(positions), AT_ONCE):
            where = slice(first, first + AT_ONCE)
            found[where] = heads.discrepancy(*features[positions[where]]).double().mean(1).cpu()
    return found
