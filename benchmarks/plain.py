"""Yardsticks of `choices.py`: what a choice does at its plainest, in torch or numpy, checked by nothing.

Each takes the rows and the budget of the choice that it stands beside. They are what the paper's equation asks for and no
quicker than that: ours may be slower where it also checks, orders by id, and makes a choice of what is found.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mcdal.values import Rows

BLOCK = 1_024


def pairs(rows: Rows, _budget: int) -> None:
    """X X' of all rows, a block of rows at a time."""
    x = torch.from_numpy(rows.vector)
    for block in x.split(BLOCK):
        block @ x.T


def in_order(rows: Rows, budget: int) -> list[str]:
    """All scores sorted, and the ids of the last."""
    assert rows.score is not None
    return [rows.ids[i] for i in np.argsort(rows.score, kind="stable")[: -budget - 1 : -1]]


def unlike_picks(rows: Rows, budget: int) -> None:
    """FALCUN's distances: of all probabilities to those of one row, and a running minimum, `budget` times."""
    assert rows.probabilities is not None
    p = rows.probabilities.astype(np.float64)
    least = np.full(len(p), np.inf)
    for pick in range(budget):
        np.minimum(least, np.abs(p - p[pick]).sum(1), out=least)


def steps_to_anchors(head: nn.Linear, rows: Rows, _budget: int) -> np.ndarray:
    """ALFA-Mix's candidates for one length of step: the gradient of all rows at once, then the head at each class' anchor."""
    assert rows.y is not None
    z = torch.from_numpy(rows.vector).requires_grad_()
    logits = head(z)
    said = logits.argmax(1)
    (g,) = torch.autograd.grad(F.cross_entropy(logits, said, reduction="sum"), z)
    x, direction = z.detach(), g / g.norm(dim=1, keepdim=True).clamp_min(1e-30)
    changed = torch.zeros(len(x), dtype=torch.bool)
    with torch.no_grad():
        for c in np.unique(rows.y[rows.labeled]):
            anchor = x[torch.from_numpy(rows.labeled & (rows.y == c))].mean(0)
            step = 0.2 / x.shape[1] ** 0.5 * (anchor - x).norm(dim=1, keepdim=True)
            changed |= head(x + step * direction).argmax(1) != said
    return changed.numpy()


def joint_entropies(draws: int, combinations: int, rows: Rows, budget: int) -> None:
    """BatchBALD's entropies of all rows given the picks so far, for every pick: up to `combinations` combinations of labels."""
    assert rows.vector is not None
    p = torch.from_numpy(rows.vector).double().view(len(rows.ids), draws, -1)
    n, t, c = p.shape
    each = p.transpose(0, 1).reshape(t, n * c)
    for pick in range(budget):
        known = torch.full((min(c**pick, combinations), t), 1 / t, dtype=torch.float64)
        torch.special.entr(known @ each).mean(0).view(n, c).sum(1)


def traces(rows: Rows, budget: int) -> None:
    """BAIT's changes, three a pick: a product of all gradients with C columns, and C equations in as many unknowns a row."""
    assert rows.vector is not None and rows.probabilities is not None
    z, p = torch.from_numpy(rows.vector).double(), torch.from_numpy(rows.probabilities).double()
    v = (p[:, :, None] * z[:, None]).flatten(1)
    columns, one = v[: p.shape[1]].T.contiguous(), torch.eye(p.shape[1], dtype=torch.float64)
    g = p[:, :, None] * p[:, None]
    for _ in range(3 * budget):
        v @ columns
        torch.linalg.solve(one + g, g).diagonal(dim1=1, dim2=2).sum(1).argmax()


def autoencoder(steps: int, batch: int, widths: tuple[int, ...], rows: Rows, _budget: int) -> None:
    """Steps of an autoencoder by Adam, as wide and as deep as DAAL's, with a squared error and nothing else."""
    torch.manual_seed(0)
    x = torch.from_numpy(rows.vector)
    both = (x.shape[1], *widths, *reversed(widths[:-1]), x.shape[1])
    layers = [part for a, b in pairwise(both) for part in (nn.Linear(a, b), nn.ReLU())]
    network = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(network.parameters())
    for step in range(steps):
        some = x[torch.arange(step * batch, (step + 1) * batch) % len(x)]
        optimizer.zero_grad()
        F.mse_loss(network(some), some).backward()
        optimizer.step()


@torch.inference_mode()
def under_dropout(head: nn.Linear, passes: int, rate: float, z: Tensor) -> Tensor:
    """Entropy of the mean of `passes` predictions, each with one mask of the features for all rows."""
    total: Any = 0
    for _ in range(passes):
        kept = (torch.rand(z.shape[1]) >= rate) / (1 - rate)
        total = total + head(z * kept).softmax(1)
    return torch.special.entr(total / passes).sum(1)
