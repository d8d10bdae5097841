"""DAAL: reconstruction of an unpublished method; two adversaries teach a network which features stand for the unlabeled ones."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mcdal.checked import above_zero, at_least
from mcdal.errors import ConfigError, SelectionError
from mcdal.networks.dual_adversarial import DualAdversary, Weights
from mcdal.networks.moments import AT_ONCE, moments
from mcdal.selection.checks import refuse_bad_rows
from mcdal.selection.clusters import by_id
from mcdal.selection.top import top
from mcdal.stack import Matrix
from mcdal.strategies.base import About, Strategy
from mcdal.streams import numpy_generator, own_randomness, stream
from mcdal.values import Batch, Measurement, Picks, Rows

Positions = Int[np.ndarray, " _"]


@dataclass
class DAAL(Strategy):
    """Wang et al. 2020, a reconstruction: there is no published code, and widths, weights, order of updates and learning rate are
    not known here. What is known: ScoreNet, 5 layers, gives each unlabeled feature x_u a score s in [0, 1]; one VAE with encoder
    and decoder of 7 layers makes x^ of (1 - s) x_u and x~ of s x_u; uDis tells x^ from labeled features, rDis x~ from unlabeled:

        L_GAN = log uDis(x_l) + log(1 - uDis(x^)) + log rDis(x_u) + log(1 - rDis(x~))

    maximised by the discriminators, minimised by VAE and ScoreNet together with KL, the squared error of the features and
    |sigma - mean s| - log P_DPP(s). The b largest s are picked at once.

    Chosen here: sigma = b / N_U; one Adam for each side, discriminators first, a batch for both; features with mean 0 and
    deviation 1; x_u as the target of both squared errors; P_DPP = det(L_S) / det(L + I) with L_ij = s_i s_j cos(x_i, x_j) and S
    the share sigma of the batch with the largest s. All of it is trained in `select`, on the features as they were measured.
    """

    about = About(
        paper="Wang et al. 2020, *Dual Adversarial Network for Deep Active Learning* (reconstructed: no code was published)",
        needs=("features", "labeled"),
        cost="training its networks on the features: `passes` times over the unlabeled ones, on the CPU",
        memory="its networks, 2 million numbers at d = 512; features are read a batch at a time",
        use="to fill the row of a table, with the word reconstruction beside it",
        avoid="any decision that matters: what is not published was guessed",
    )

    passes: int = 20
    """Times that each unlabeled feature is seen."""
    batch_size: int = 128
    """Unlabeled features a step, and as many labeled ones, drawn with replacement."""
    lr: float = 1e-4
    """Of both Adams."""
    latent: int = 128
    """Length of the VAE's latent vectors."""
    width: int = 256
    """Of the VAE's six hidden layers on each side."""
    dropout: float = 0.4
    """Between the VAE's layers."""
    adversarial: float = 1.0
    """Weight of L_GAN."""
    prior: float = 1.0
    """Weight of the KL divergence, in nats over the length of the features."""
    reconstruction: float = 1.0
    """Weight of the squared error, the mean over the features."""
    sparsity: float = 1.0
    """Weight of |sigma - mean s|."""
    dpp: float = 1.0
    """Weight of -log P_DPP, over the size of the batch."""

    def __post_init__(self) -> None:
        at_least(self, "strategy", 1, "passes", "batch_size", "latent", "width")
        above_zero(self, "strategy", "lr")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"strategy.dropout = {self.dropout}: give a rate from 0 to below 1")
        at_least(self, "strategy", 0, "adversarial", "prior", "reconstruction", "sparsity", "dpp")

    def measure(self, batch: Batch) -> Measurement:
        assert batch.output is not None
        return Measurement(vector=batch.output.features)

    def select(self, rows: Rows, budget: int, seed: int) -> Picks:
        assert rows.vector is not None
        refuse_bad_rows(rows)
        labeled, unlabeled = (by_id(rows.ids, np.flatnonzero(mask)) for mask in (rows.labeled, ~rows.labeled))
        if len(labeled) == 0:
            raise SelectionError("DAAL learns what labeled features look like, and no row is labeled")
        if len(unlabeled) == 0:
            return top((), np.empty(0), budget)
        features = _Standardized(rows.vector, np.concatenate([labeled, unlabeled]))
        with own_randomness():
            torch.manual_seed(stream(seed, "daal"))
            trained = self._train(features, labeled, unlabeled, min(1.0, budget / len(unlabeled)), seed)
        parts = (unlabeled[first : first + AT_ONCE] for first in range(0, len(unlabeled), AT_ONCE))
        with torch.no_grad():
            s = torch.cat([trained.score_logits(features[part]).double().sigmoid() for part in parts])
        return top(tuple(rows.ids[i] for i in unlabeled), s.numpy(), budget)

    def _train(
        self, features: "_Standardized", labeled: Positions, unlabeled: Positions, share: float, seed: int
    ) -> DualAdversary:
        weights = Weights(self.adversarial, self.prior, self.reconstruction, self.sparsity, self.dpp)
        networks = DualAdversary(features.length, self.latent, self.width, self.dropout, share, self.lr, weights)
        random = numpy_generator(seed, "daal", "batches")
        for _ in range(self.passes):
            order = random.permutation(unlabeled)
            for first in range(0, len(order), self.batch_size):
                batch = order[first : first + self.batch_size]
                networks.step(features[random.choice(labeled, len(batch))], features[batch])
        return networks


class _Standardized:
    """Features with mean 0 and deviation 1, read a part at a time; one that is constant is 0.

    order: all rows as they are to be added up, so that the last bits do not depend on where they lie.
    """

    def __init__(self, vector: Float[Matrix, "n d"], order: Positions):
        mean, deviation = moments(vector, order)
        self._vector, self._mean = vector, mean.float()
        self._scale = torch.where(deviation > 1e-6 * deviation.max(), 1 / deviation, 0).float()

    @property
    def length(self) -> int:
        """Of a row."""
        return int(self._vector.shape[1])

    def __getitem__(self, positions: Positions) -> Float[Tensor, "m d"]:
        rows = torch.from_numpy(np.asarray(self._vector[positions], dtype=np.float32))
        return (rows - self._mean) * self._scale
