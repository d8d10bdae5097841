"""Mean and deviation of features, read in parts."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mcdal.selection.k_center import widened
from mcdal.stack import Matrix

Positions = Int[np.ndarray, " _"]

SUMMED = 1_024
"""Rows that are added up together: so few that the memory of their copies is not new from the system each time."""
AT_ONCE = 8_192
"""Rows of the features that are read together outside of training."""


def moments(vector: Float[Matrix, "n d"], order: Positions) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Mean and standard deviation of each feature, in float64, from one pass over the rows in this order."""
    total = torch.zeros(2, vector.shape[1], dtype=torch.float64)
    pivot = torch.from_numpy(vector[order[0]].astype(np.float64))  # against cancellation where the mean is large
    for first in range(0, len(order), SUMMED):
        x = torch.from_numpy(widened(vector[order[first : first + SUMMED]]).astype(np.float64)) - pivot
        total += torch.stack([x.sum(0), x.square().sum(0)])
    mean, square = total / len(order)
    return mean + pivot, (square - mean.square()).clamp_min(0).sqrt()
