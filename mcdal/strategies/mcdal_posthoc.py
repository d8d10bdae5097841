"""MCDAL post hoc: MCDAL's heads, trained after the task model on its features; works with any model's features."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int

from mcdal.checked import above_zero, at_least
from mcdal.device import Numerics, native_bfloat16
from mcdal.discrepancy import Distance
from mcdal.errors import SelectionError
from mcdal.networks.posthoc_fit import Features, apart, fit
from mcdal.networks.posthoc_heads import PosthocHeads
from mcdal.schedule import Optimization
from mcdal.selection import at_random
from mcdal.selection.checks import refuse_bad_rows
from mcdal.selection.clusters import by_id
from mcdal.strategies.base import About, Scored
from mcdal.streams import numpy_generator, own_randomness, stream
from mcdal.values import Batch, Measurement, Picks, Rows

STEPS_A_PASS = 16
"""At least so many, where there are as many unlabeled rows: 1,600 steps in 100 passes."""


@dataclass(frozen=True)
class Fit:
    """How the last fit went: a fixed number of passes, and what tells whether they were enough.

    by_pass: mean L_dis on the unlabeled rows while each pass trained. change: of by_pass over the last tenth of the passes
    (at least one), relative to its value before; NaN for a single pass. labeled_mean: the zero of Eq. 5. A small change says
    that the heads have come to rest, which a falling learning rate brings about as well; that they rest where more passes would
    have taken them was measured (docs/fidelity.md), and is seen by fitting again with four times the passes.
    """

    by_pass: tuple[float, ...]
    change: float
    labeled_mean: float


@dataclass
class MCDALPosthoc(Scored):
    """MCDAL (Cho et al. 2022), with heads that are trained when the task model is done, on features z that stay fixed.

        min  sum_k CE(p_k, y)                   on labeled rows              (step A)
        min  sum_k CE(p_k, y) - L_dis           L_dis on unlabeled rows      (step B, Eq. 2 and 3)

    as `mcdal` does, with p the class probabilities of the task model: fixed as well. `pairs` independent sets of `heads` heads
    learn side by side; a row's score is the mean of their discrepancies (Eq. 4). It needs no hook into a training, so it works
    on the outputs of any model. The heads are trained on CUDA if the rows were measured there, and else on the CPU.
    """

    about = About(
        paper="this package, after Cho et al. 2022, *MCDAL: Maximum Classifier Discrepancy for Active Learning*",
        needs=("probabilities", "features", "labels"),
        cost="`passes` passes over the features through `pairs` x `heads` linear heads: on one core, for 50,000 x 512, 5 s a "
        "pair at 10 classes and 20 s at 100 with instructions for bfloat16, 7 s and 26 s without",
        memory="the heads: `pairs` x `heads` x (d + 1) x C; features are read a batch at a time",
        use="MCDAL for a model that was trained without it, and for tables of features",
        avoid="as MCDAL: very few labels, or many classes",
    )

    heads: int = 2
    """Auxiliary heads of a set, compared pairwise with each other and the task model's own."""
    pairs: int = 4
    """Independent sets of heads whose discrepancies are averaged: more make the score steadier."""
    distance: Distance = "l1"
    """d(p, q): l1 = mean |p_c - q_c| (Eq. 3), l2 = Euclidean norm / C, kl = mean of KL(p|q) and KL(q|p)."""
    weight: float = 1.0
    """Of L_dis in step B. l1 and l2 are means over classes: C, their number, makes them sums."""
    passes: int = 100
    """Times that each unlabeled row is seen."""
    batch_size: int = 2048
    """Unlabeled rows a step; at most a sixteenth of them, since what converges is counted in steps."""
    labeled_batch_size: int = 256
    """Labeled rows a step, or all that there are."""
    lr: float = 1.0
    """Learning rate of SGD with momentum .9, times .2 after 30, 60 and 80 % of the steps. 1 suits features of length 1;
    without `standardize`, .1 is the paper's for those of its network."""
    weight_decay: float = 1e-4
    """L2 penalty. Features of length 1 need larger weights than those of a network: under the paper's 5e-4 the heads are
    less like MCDAL's own. With less than 1e-4 divided by `lr` a hundred passes do not converge."""
    standardize: bool = True
    """Features of mean 0, equal deviations and length near 1, so that one learning rate fits all models; False: as they are."""
    sample: int | None = None
    """Unlabeled rows that the heads are trained on, drawn by lot, while all are scored; null: all of them. A fit takes as much
    longer as there are more of them."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the products with features, while the heads are trained: auto is bfloat16 on a processor with instructions for it, and
    float32 elsewhere. Scores are computed in float32."""
    fitted: Fit | None = field(default=None, init=False, repr=False, compare=False)
    _device: torch.device = field(default=torch.device("cpu"), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "strategy", 2, "heads")
        at_least(self, "strategy", 1, "pairs", "passes", "batch_size", "labeled_batch_size")
        above_zero(self, "strategy", "lr")
        at_least(self, "strategy", 0, "weight_decay", "weight")
        if self.sample is not None:
            at_least(self, "strategy", 1, "sample")

    def measure(self, batch: Batch) -> Measurement:
        assert batch.output is not None
        device = batch.output.features.device
        self._device = device if device.type == "cuda" else torch.device("cpu")
        return Measurement(vector=batch.output.features, probabilities=batch.output.logits.softmax(1))

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        assert rows.vector is not None and rows.probabilities is not None and rows.y is not None
        refuse_bad_rows(rows)
        labeled, unlabeled = (by_id(rows.ids, np.flatnonzero(mask)) for mask in (rows.labeled, ~rows.labeled))
        if len(labeled) == 0:
            raise SelectionError("mcdal_posthoc trains its heads on labels, and no row has one")
        order = np.concatenate([labeled, unlabeled])
        with Numerics(self._device, "float32", channels_last=False, compile=False).deterministic():
            features = Features.of(rows.vector, rows.probabilities, order, self.standardize, self._device)
            heads = self._fit(features, labeled, rows.y, self._sampled(rows, unlabeled, seed), seed)
            score = np.zeros(len(rows.ids))
            score[unlabeled] = apart(heads, features, unlabeled).numpy()
        return self.choose(rows, score, budget, seed)

    def _sampled(self, rows: Rows, unlabeled: Int[np.ndarray, " u"], seed: int) -> Int[np.ndarray, " _"]:
        """What the heads are trained on, in the order of the ids."""
        if self.sample is None or self.sample >= len(unlabeled):
            return unlabeled
        drawn = at_random(rows.ids, self.sample, stream(seed, "mcdal_posthoc", "sample"), unlabeled).places
        assert drawn is not None
        return by_id(rows.ids, drawn)

    def _fit(
        self,
        features: Features,
        labeled: Int[np.ndarray, " l"],
        y: Int[np.ndarray, " n"],
        unlabeled: Int[np.ndarray, " u"],
        seed: int,
    ) -> PosthocHeads:
        with own_randomness():
            torch.manual_seed(stream(seed, "mcdal_posthoc", "heads"))
            shape = features.vector.shape[1], features.probabilities.shape[1]
            heads = PosthocHeads(*shape, self.pairs, self.heads, self.distance).to(features.device)
        random = numpy_generator(seed, "mcdal_posthoc", "batches")
        batch_size = min(self.batch_size, -(-len(unlabeled) // STEPS_A_PASS))
        by_pass = fit(
            heads, features, labeled, torch.from_numpy(y), unlabeled,
            Optimization(lr=self.lr, weight_decay=self.weight_decay), self.passes, batch_size, self.labeled_batch_size, random,
            self._dtype(), self.weight,
        )  # fmt: skip
        mean = float(apart(heads, features, labeled).mean())
        self.fitted = Fit(tuple(by_pass), _late_change(by_pass), mean)
        return heads

    def _dtype(self) -> torch.dtype:
        """On CUDA the products take no time worth saving."""
        coarse = self._device.type == "cpu" and native_bfloat16(self._device)
        return (
            torch.bfloat16 if self.precision == "bfloat16" or (self.precision == "auto" and coarse) else torch.float32
        )


def _late_change(by_pass: list[float]) -> float:
    before = by_pass[-1 - max(1, len(by_pass) // 10)] if len(by_pass) > 1 else 0.0
    return by_pass[-1] / before - 1 if before > 0 else float("nan")
