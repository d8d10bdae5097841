"""ALFA-Mix: label, well spread, where a small step toward other classes' features changes the predicted class."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mcdal.errors import ConfigError, SelectionError
from mcdal.models.base import Model, apply_head
from mcdal.selection.checks import refuse_bad_rows
from mcdal.selection.k_center import chunks, part
from mcdal.selection.k_means import among_candidates
from mcdal.stack import Matrix
from mcdal.strategies.base import About, Setting, Strategy
from mcdal.tasks.base import Task
from mcdal.values import Batch, Measurement, Picks, Rows

Positions = Int[np.ndarray, " _"]


@dataclass
class ALFAMix(Strategy):
    """Parvaneh et al. 2022, with the closed form of alpha. For features z (of D numbers), head h and y^ = argmax h(z):

        alpha(z*) = epsilon / sqrt(D) * ||z* - z|| g / (||g|| (z* - z))      g = gradient of CE(h(z), y^) by z
        z'(z*)    = alpha z* + (1 - alpha) z                                 elementwise

    for every anchor z*, the mean features of the labeled rows of a class. A row is a candidate if argmax h(z') != y^ for some
    anchor. k-means of the candidates' features, scaled to length 1, into as many clusters as the budget; the candidate nearest
    to each centre is picked. `score`: candidates in the pick's cluster.

    z' - z is epsilon / sqrt(D) ||z* - z|| g / ||g||, whatever the direction of z*: that is what is computed, without a
    division by z* - z. While there are fewer candidates than the budget, epsilon grows by its own value, up to 1, as in the
    published code; then all candidates are picked, and others by lot.
    """

    about = About(
        paper="Parvaneh et al. 2022, *Active Learning by Feature Mixing*",
        needs=("features", "labels", "model"),
        cost="the head on each row, and the distance to each class; for a head that is not linear its gradient and the head once "
        "more for each class, up to 5 times; k-means of the candidates",
        memory="a copy of up to 50,000 candidates' features",
        use="few labels and a head that is good at what it was trained on, as on a pretrained encoder",
        avoid="very many classes: each has an anchor that every row is moved by",
    )

    epsilon: float = 0.2
    """Length of the step, as a share of the distance to the anchor times sqrt(D)."""
    grow: bool = True
    """Longer steps while too few labels change; False fills up by lot at once."""
    _model: Model | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 1:
            raise ConfigError(f"strategy.epsilon = {self.epsilon}: give a number above 0, at most 1")

    def attach(self, model: Model, task: Task, setting: Setting) -> None:
        self._model = model

    def measure(self, batch: Batch) -> Measurement:
        assert batch.output is not None
        return Measurement(vector=batch.output.features)

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        if self._model is None:
            raise SelectionError("alfa_mix has no model: train with this object first (`train` attaches it)")
        assert rows.vector is not None
        refuse_bad_rows(rows)
        anchors = class_means(rows)
        candidate, left = np.zeros(len(rows.ids), dtype=bool), rows.free()
        flips = _flips(self._model.head, rows.vector, anchors, left)
        for epsilon in self._steps():
            found = flips(left, epsilon)
            candidate[left[found]] = True
            if candidate.sum() >= budget:
                break
            left = left[~found]
        return among_candidates(rows, candidate, budget, seed)

    def _steps(self) -> Iterator[float]:
        """epsilon, 2 epsilon, ... up to the first that is at least 1; epsilon alone where it does not grow."""
        times = int(np.ceil(1 / self.epsilon - 1e-9)) if self.grow else 1
        return (self.epsilon * (i + 1) for i in range(times))


def class_means(rows: Rows) -> Float[np.ndarray, "k d"]:
    """Mean vector of the labeled rows of each class that has one."""
    if rows.vector is None or rows.y is None or not rows.labeled.any():
        raise SelectionError("alfa_mix mixes with the features of labeled rows, and there is none")
    labeled = np.flatnonzero(rows.labeled)
    classes, y = np.unique(rows.y[labeled], return_inverse=True)
    total = np.zeros((len(classes), rows.vector.shape[1]))
    for where in chunks(len(labeled)):
        np.add.at(total, y[where], rows.vector[labeled[where]].astype(np.float64))
    means: Float[np.ndarray, "k d"] = total / np.bincount(y)[:, None]
    return means


def _flips(
    head: nn.Module, vector: Float[Matrix, "n d"], anchors: Float[np.ndarray, "k d"], free: Positions
) -> Callable[[Positions, float], Bool[np.ndarray, " m"]]:
    """Tells of some of the `free` rows, for an epsilon, whether their class changes on the step toward some anchor."""
    if type(head) is not nn.Linear:
        return lambda rows, epsilon: changed(head, vector, anchors, epsilon, rows)
    least = np.full(len(vector), np.inf)
    least[free] = least_epsilon(head, vector, anchors, free)
    return lambda rows, epsilon: least[rows] < epsilon


def changed(
    head: nn.Module, vector: Float[Matrix, "n d"], anchors: Float[np.ndarray, "k d"], epsilon: float, rows: Positions
) -> Bool[np.ndarray, " m"]:
    """Which of these rows change their class on the step toward some anchor, for a head of any kind."""
    weight = next(head.parameters())
    points = torch.from_numpy(anchors).to(weight.device, weight.dtype)
    found = np.zeros(len(rows), dtype=bool)
    for where in chunks(len(rows), 4_096):
        z = part(vector, rows[where]).to(weight.device, weight.dtype)
        said, direction = said_and_direction(head, z)
        with torch.no_grad():
            flips = torch.zeros_like(said, dtype=torch.bool)
            for anchor in points:
                step = epsilon / z.shape[1] ** 0.5 * (anchor - z).norm(dim=1, keepdim=True)
                flips |= apply_head(head, z + step * direction).argmax(1) != said
        found[where] = flips.cpu().numpy()
    return found


@torch.no_grad()
def least_epsilon(
    head: nn.Linear, vector: Float[Matrix, "n d"], anchors: Float[np.ndarray, "k d"], rows: Positions
) -> Float[np.ndarray, " m"]:
    """Above which epsilon these rows change their class on the step toward some anchor; infinite where they never do.

    Along g the logits of a linear head are straight lines: a class that has overtaken y^ stays ahead. So the longest step
    decides, that toward the farthest anchor, and one look at each row serves every epsilon.
    """
    points = torch.from_numpy(anchors).to(head.weight.device, head.weight.dtype)
    gram = head.weight.double() @ head.weight.double().T
    found = np.empty(len(rows))
    for where in chunks(len(rows), 512):  # so few that their memory is not new from the system each time
        z = part(vector, rows[where]).to(head.weight.device, head.weight.dtype)
        step = _step_to_change(apply_head(head, z).double(), gram)
        found[where] = (step * z.shape[1] ** 0.5 / _farthest(z, points)).cpu().numpy()
    return found


def _step_to_change(logits: Float[Tensor, "b c"], gram: Float[Tensor, "c c"]) -> Float[Tensor, " b"]:
    """Length of the step along g / ||g|| at which a class reaches y^; infinite where none does. gram: W W' of the head.

    g = W' a with a = softmax of the other classes less the one of y^, so logits rise by W g = (W W') a and ||g||^2 = a' (W W') a.
    """
    said = logits.argmax(1, keepdim=True)
    a = logits.scatter(1, said, -torch.inf).softmax(1).scatter(1, said, -1.0)
    rise = a @ gram
    gap, rise, length = (
        logits.gather(1, said) - logits,
        rise - rise.gather(1, said),
        (a * rise).sum(1).clamp_min(0).sqrt(),
    )
    return torch.where(rise > 0, gap / rise * length[:, None], torch.inf).amin(1)


def _farthest(z: Float[Tensor, "b d"], points: Float[Tensor, "k d"]) -> Float[Tensor, " b"]:
    """Distance to the farthest of the points: which one it is by products, about their mean, how far it is by differences."""
    about = points.mean(0)
    centred = points - about
    which = torch.addmm(centred.square().sum(1), z - about, centred.T, alpha=-2).argmax(1)
    apart: Tensor = (points[which] - z).norm(dim=1)
    return apart.double()


def said_and_direction(head: nn.Module, z: Float[Tensor, "b d"]) -> tuple[Int[Tensor, " b"], Float[Tensor, "b d"]]:
    """y^ and g / ||g||; a gradient of 0 stays 0. In the head's own precision, for a head of any kind."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        logits = apply_head(head, z)
        said = logits.argmax(1)
        # The cross-entropy's gradient points the same way, but vanishes and rounds where the model is sure.
        others = logits.scatter(1, said[:, None], -torch.inf).logsumexp(1)
        (g,) = torch.autograd.grad((others - logits.gather(1, said[:, None])[:, 0]).sum(), z)
    return said, g / g.norm(dim=1, keepdim=True).clamp_min(torch.finfo(g.dtype).tiny)
