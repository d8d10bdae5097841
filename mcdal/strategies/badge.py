"""BADGE: label a batch whose gradients are large and unlike each other."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mcdal.networks.gradients import last_layer_gradient
from mcdal.selection.checks import refuse_bad_rows
from mcdal.selection.demand import Demand, Size
from mcdal.selection.k_means_pp import outer_k_means_pp
from mcdal.stack import Matrix, Stack, on_disk
from mcdal.strategies.base import BOTH, About, Strategy
from mcdal.streams import numpy_generator
from mcdal.values import Batch, Measurement, Picks, Rows


@dataclass
class Badge(Strategy):
    """Ash et al. 2020. The gradient of the last layer, were the model's own answer y^ the label, is

        g = (p - onehot(y^)) (x) z          (p the class probabilities, z the features before the head)

    long where the model is unsure. k-means++ seeding on g: the longest first, then each with a probability in proportion to its
    squared distance to the nearest pick. Distances are computed from p and z alone; of masks g is the mean over the image, and
    is formed. `score` is that squared distance at the time of the pick.
    """

    about = About(
        paper="Ash et al. 2020, *Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds*",
        needs=("probabilities", "features"),
        cost="distances to the picks for what is drawn, and to some picks for all: half a second for 50,000 x 512",
        memory="a few numbers a sample; the gradients are never formed, but those of masks, C x d numbers each",
        use="any batch size and number of classes: as safe as Margin, and better in large batches",
        avoid="the first labels of a pool, when the model's probabilities mean little",
        tasks=BOTH,
    )

    def measure(self, batch: Batch) -> Measurement:
        assert batch.output is not None
        return last_layer_gradient(batch.output)

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        assert rows.vector is not None
        refuse_bad_rows(rows)
        # Without p, `vector` is g itself: one factor of a product whose other one is 1.
        whole: Matrix = np.ones((len(rows.ids), 1), dtype=np.float32)
        a = whole if rows.probabilities is None else _read_as_residuals(rows.probabilities)
        picks, squares = outer_k_means_pp(
            rows.ids, a, rows.vector, np.flatnonzero(~rows.labeled), budget, numpy_generator(seed, "badge")
        )
        return Picks(tuple(rows.ids[i] for i in picks), np.array(squares, dtype=np.float64))

    def demand(self, size: Size) -> Demand:
        """A fifth of all distances to the picks, in float64."""
        return Demand(64.0 * size.n, 0.4 * size.n * size.budget * (size.d + max(size.c, 1)))


def _read_as_residuals(p: Float[Matrix, "n c"]) -> Float[Matrix, "n c"]:
    """Made when they are read where p lies on the disk."""
    return Stack([p], each=residuals) if on_disk(p) else residuals(p[:])


def residuals(p: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    """p - onehot(argmax p)"""
    a = p.astype(np.float32)
    a[np.arange(len(p)), p.argmax(1)] -= 1
    return a
